package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/scopegate/scopegate/audit/logfile"
)

// Fault says what was done to a log.
type Fault string

// The faults.
const (
	Edited    Fault = "edited"    // a line is not what was written
	Removed   Fault = "removed"   // lines are missing before this one
	Inserted  Fault = "inserted"  // a line that the chain does not hold
	Reordered Fault = "reordered" // a line stands elsewhere than it was written
	CutOff    Fault = "cut"       // the log ends before what an anchor knows of
	Replaced  Fault = "replaced"  // another log than the one that was anchored
	Forged    Fault = "forged"    // a signature that no trusted key has made
)

// Finding is a fault and where it is.
type Finding struct {
	Fault Fault  `json:"fault"`
	File  string `json:"file,omitempty"`
	Line  int    `json:"line,omitempty"`
	Seq   uint64 `json:"seq,omitempty"` // that the line says it has
	Text  string `json:"text"`

	order int // of the lines, how many had come
}

const (
	// maxFindings bounds what is told of a log that is no log.
	maxFindings = 100

	// maxKeys bounds how many keys a log goes through: each signature is held
	// against all of them.
	maxKeys = 500
)

// VerifyOptions say what a log is held against.
type VerifyOptions struct {
	// Keys are the public keys that are trusted. Without any, the first one
	// in the log is: then it shows damage, and nothing that the holder of the
	// log's key has done.
	Keys []string

	// Anchors are checkpoints that were kept outside of the log, as signed
	// notes. Those of other logs are passed over.
	Anchors []string

	// Pruned says that the first files were deleted on purpose.
	Pruned bool
}

// Report is what is known of a log after all its lines.
type Report struct {
	Log         string    `json:"log"`
	First       uint64    `json:"first"` // number of the first line
	Last        uint64    `json:"last"`
	Lines       int       `json:"lines"`
	Records     int       `json:"records"`
	Unchained   int       `json:"unchained"` // lines from before there were chains
	Segments    int       `json:"segments"`  // starts of a process
	Unclosed    int       `json:"unclosed"`  // of them, those whose process died
	Torn        int       `json:"torn"`      // writes that broke off
	Partial     bool      `json:"partial"`   // the last line lacks its end: it is being written, or never was
	Reopened    int       `json:"reopened"`
	Checkpoints int       `json:"checkpoints"`
	Unchecked   int       `json:"unchecked"` // checkpoints before any key was known
	Signed      uint64    `json:"signed"`    // the last line under a signature in the log
	SignedAt    time.Time `json:"signed_at,omitzero"`
	Anchored    uint64    `json:"anchored"` // the last line under an outside anchor; 0 is none
	AnchoredAt  time.Time `json:"anchored_at,omitzero"`
	Trusted     bool      `json:"trusted"` // a key was given, not taken from the log
	Findings    []Finding `json:"findings"`
	More        int       `json:"more,omitempty"` // findings that were only counted
}

// Sound reports whether no fault was found.
func (r *Report) Sound() bool { return len(r.Findings) == 0 }

// Verifier checks the lines of one log, in their order. It holds a bounded part
// of them, whatever they are.
type Verifier struct {
	options VerifyOptions
	keys    []string
	known   note.Verifiers // of the keys
	anchors []Signature    // of this log, by number; those that are yet to come
	newest  *Signature     // of those that the lines fit
	unfit   error          // of the first anchor that cannot be one
	report  Report

	end     chain
	ended   place // where the line is that the chain has come to
	before  Hash  // of the last line before the chain
	started bool  // a line of the chain was seen
	closed  bool
	loose   []garbage // lines that are none, and that no line explains yet
	pending *garbage  // the beginning of a line, where the log ends
	gaps    []gap
}

// place is where a line stands.
type place struct {
	file string
	line int
}

type garbage struct {
	at    place
	hash  Hash
	order int
}

// gap is what is missing, and the finding that says so.
type gap struct {
	from, to uint64
	finding  int
}

// NewVerifier begins to check a log.
func NewVerifier(o VerifyOptions) *Verifier {
	v := &Verifier{options: o}
	v.trust(o.Keys...)
	v.report.Trusted = len(o.Keys) > 0
	v.report.Findings = []Finding{}
	return v
}

// trust takes keys for the log's. One that is none signs nothing.
func (v *Verifier) trust(keys ...string) {
	v.keys = append(v.keys, keys...)
	v.known, _ = trust(v.keys)
}

// Line takes the next line, without its newline.
func (v *Verifier) Line(file string, number int, line []byte) {
	if v.pending != nil { // it was not the last one
		v.loose, v.pending = append(v.loose, *v.pending), nil
	}
	at := place{file, number}
	v.report.Lines++
	s, ok := parseStamp(line)
	if !ok {
		v.none(at, line)
		return
	}
	if !v.started {
		v.begin(at, s)
	} else if s.seq != v.end.seq+1 || s.prev != v.end.head {
		v.breaks(at, s)
	}
	v.end, v.ended = chain{s.seq, hashOf(line)}, at
	v.reach(at)
	if !s.own() {
		v.report.Records++
		v.closed = false
		return
	}
	m, ok := s.mark()
	if !ok {
		v.find(Finding{Fault: Forged, File: at.file, Line: at.line, Seq: s.seq, Text: "a line of the chain that cannot be read"})
		return
	}
	v.mark(at, s, m)
}

// none takes a line that has no place in the chain.
func (v *Verifier) none(at place, line []byte) {
	if !v.started {
		v.report.Unchained++
		v.before = hashOf(line)
	}
	if len(v.loose) >= maxFragments && !v.started {
		return // they are from before there were chains, or the first ones tell
	}
	if len(v.loose) >= maxFragments {
		v.find(Finding{Fault: Inserted, File: at.file, Line: at.line, Seq: 0, Text: "one more line that is no record of this log"})
		return
	}
	v.loose = append(v.loose, garbage{at, hashOf(line), v.report.Lines})
}

// begin takes the first line of the chain.
func (v *Verifier) begin(at place, s stamped) {
	v.started = true
	v.report.First = s.seq
	switch {
	case s.seq == 1 && s.prev == (Hash{}):
		// What stands before it is from a first write that broke off, or was
		// put there.
		v.report.Unchained = 0
	case s.seq == 1 && v.report.Unchained > 0 && s.prev == v.before:
		v.loose = nil
	case s.seq == 1:
		v.find(Finding{Fault: Edited, File: at.file, Line: max(1, at.line-1), Text: "the line before the log's first one is not what it was"})
		v.loose = nil
	case !v.options.Pruned:
		v.report.Unchained = 0
		v.find(Finding{Fault: Removed, File: at.file, Line: at.line, Seq: s.seq, Text: fmt.Sprintf("the log begins here: lines 1 to %d are not among the files. Where they were deleted on purpose, say --pruned", s.seq-1)})
	default:
		v.report.Unchained = 0
	}
}

// breaks tells of a line that does not follow the one before.
func (v *Verifier) breaks(at place, s stamped) {
	f := Finding{File: at.file, Line: at.line, Seq: s.seq}
	switch {
	case s.seq == v.end.seq+1:
		f.Fault, f.File, f.Line, f.Seq = Edited, v.ended.file, v.ended.line, v.end.seq
		f.Text = fmt.Sprintf("line %d says that the hash of this one was %s; it is %s", s.seq, s.prev, v.end.head)
	case s.seq == 1 && s.prev == (Hash{}):
		f.Fault, f.Text = Replaced, fmt.Sprintf("a log begins anew here, behind line %d of another", v.end.seq)
	case s.seq > v.end.seq:
		if len(v.loose) > 0 && s.seq-v.end.seq-1 <= uint64(len(v.loose)) {
			f.Fault, f.File, f.Line, f.Seq = Edited, v.loose[0].at.file, v.loose[0].at.line, v.end.seq+1
			f.Text = fmt.Sprintf("this is not line %d as it was written", v.end.seq+1)
			v.loose = v.loose[s.seq-v.end.seq-1:]
			break
		}
		f.Fault = Removed
		f.Text = fmt.Sprintf("lines %d to %d are missing before this one", v.end.seq+1, s.seq-1)
		v.gaps = append(v.gaps, gap{v.end.seq + 1, s.seq - 1, len(v.report.Findings)})
		if len(v.gaps) > maxFindings {
			v.gaps = v.gaps[1:]
		}
	default:
		f.Fault, f.Text = Inserted, fmt.Sprintf("a second line %d", s.seq)
		for _, g := range v.gaps {
			if s.seq < g.from || s.seq > g.to {
				continue
			}
			if g.finding < len(v.report.Findings) {
				v.report.Findings[g.finding].Fault = Reordered
			}
			f.Fault, f.Text = Reordered, fmt.Sprintf("line %d stands behind line %d", s.seq, v.end.seq)
		}
	}
	v.find(f)
}

// reach holds the line that was just taken against the anchors of its number.
func (v *Verifier) reach(at place) {
	for len(v.anchors) > 0 && v.anchors[0].Seq <= v.end.seq {
		a := v.anchors[0]
		v.anchors = v.anchors[1:]
		switch {
		case a.Seq < v.end.seq: // before the first line, or missing, as was told
		case a.Head == v.end.head:
			v.newest = &a
		case v.fits(a):
			v.find(Finding{Fault: Replaced, File: at.file, Line: at.line, Seq: a.Seq, Text: fmt.Sprintf("this is not the line %d that was anchored on %s", a.Seq, a.Time.Format(time.RFC3339))})
		}
	}
}

// mark takes a line of the chain's own.
func (v *Verifier) mark(at place, s stamped, m mark) {
	f := Finding{Fault: Forged, File: at.file, Line: at.line, Seq: s.seq}
	switch m.Kind {
	case Segment:
		v.segment(at, f, m)
	case KeyChange:
		v.keyChange(f, m)
	case Checkpoint:
		v.report.Checkpoints++
		if len(v.keys) == 0 {
			v.report.Unchecked++
			return
		}
		signature, err := openSignature(m.Signed, v.known)
		if err == nil && v.report.Log == "" { // the file that says so was deleted on purpose
			v.report.Log = signature.Log
			v.open(at)
		}
		switch {
		case err != nil:
			f.Text = "a checkpoint is not to be trusted: " + err.Error()
		case signature.Log != v.report.Log:
			f.Text = "a checkpoint of another log, " + signature.Log
		case signature.Seq != s.seq-1 || signature.Head != s.prev:
			f.Text = fmt.Sprintf("a checkpoint for line %d with the hash %s does not fit here", signature.Seq, signature.Head)
		default:
			v.report.Signed, v.report.SignedAt = signature.Seq, signature.Time
			return
		}
		v.find(f)
	case Torn:
		v.report.Torn++
		v.explain(f, m)
	case Reopened:
		v.report.Reopened++
	case Cut:
		f.Fault, f.Text = CutOff, fmt.Sprintf("the gateway found here that lines were missing: line %d had been anchored", m.Seq)
		v.find(f)
	case Closed:
		v.closed = true
	default:
		f.Text = fmt.Sprintf("a line of the unknown kind %q; a later version may know it", m.Kind)
		v.find(f)
	}
}

// keyChange takes the word of a key for the one that follows it. It speaks for
// its own log alone: who has the key of one replica must not make one for
// another.
func (v *Verifier) keyChange(f Finding, m mark) {
	if slices.Contains(v.keys, m.Key) {
		return // who has the new key alone cannot check the old one
	}
	body, err := openNote(m.Signed, v.known)
	switch {
	case keyOf(m.Key) != m.Log || v.report.Log != "" && m.Log != v.report.Log:
		f.Text = "the log goes on under the key of another one, " + keyOf(m.Key)
	case len(v.keys) > 0 && (err != nil || body != m.Log+"\nkey\n"+m.Key+"\n"):
		f.Text = "the log goes on under a key that none before it vouches for"
	case len(v.keys) >= maxKeys:
		f.Text = "the log goes on under more keys than are looked at"
	default:
		v.trust(m.Key)
		return
	}
	v.find(f)
}

// segment takes the start of a process.
func (v *Verifier) segment(at place, f Finding, m mark) {
	if v.report.Segments > 0 && !v.closed {
		v.report.Unclosed++
	}
	v.report.Segments++
	v.closed = false
	switch {
	case v.report.Log == "":
		v.report.Log = m.Log
		if len(v.keys) == 0 {
			v.trust(m.Key)
		}
		v.open(at)
	case v.report.Log != m.Log:
		f.Fault, f.Text = Replaced, fmt.Sprintf("the log goes on as another one, %s", m.Log)
		v.find(f)
		return
	}
	switch {
	case !slices.Contains(v.keys, m.Key):
		f.Text = "the log goes on under a key that is not trusted: " + m.Key
		v.find(f)
	case keyOf(m.Key) != m.Log:
		f.Text = "the log goes on under the key of another one, " + keyOf(m.Key)
		v.find(f)
	}
}

// open reads the anchors of this log, once its name is known. Whether its keys
// have signed one is only asked of those on which something depends, since a
// year has millions: whoever makes up one that the lines fit says what they say.
func (v *Verifier) open(at place) {
	for _, text := range v.options.Anchors {
		if !strings.HasPrefix(text, v.report.Log+"\n") {
			continue
		}
		signature, err := readSignature(text)
		if err != nil {
			v.unfit = cmp.Or(v.unfit, err)
		} else if signature.Seq >= v.end.seq {
			v.anchors = append(v.anchors, signature)
		}
	}
	slices.SortFunc(v.anchors, func(a, b Signature) int { return cmp.Compare(a.Seq, b.Seq) })
	v.reach(at)
}

// fits reports whether a key of the log has signed an anchor.
func (v *Verifier) fits(a Signature) bool {
	_, err := openSignature(a.Note, v.known)
	v.unfit = cmp.Or(v.unfit, err)
	return err == nil
}

// explain takes a line that says of one further up that it is none.
func (v *Verifier) explain(f Finding, m mark) {
	at := slices.IndexFunc(v.loose, func(g garbage) bool { return g.hash.String() == m.SHA256 })
	if at < 0 && v.options.Pruned && v.end.seq-v.report.First < uint64(v.report.Torn) {
		return // it was the end of a file that was deleted on purpose
	}
	if at < 0 {
		f.Fault, f.Text = Removed, "what this line says a broken write has left is not there"
		v.find(f)
		return
	}
	v.loose = slices.Delete(v.loose, at, at+1)
}

func (v *Verifier) find(f Finding) { v.note(v.report.Lines, f) }

func (v *Verifier) note(order int, f Finding) {
	f.order, f.Text = order, clean(f.Text) // it holds what a line says
	if len(v.report.Findings) >= maxFindings {
		v.report.More++
		return
	}
	v.report.Findings = append(v.report.Findings, f)
}

// Finish says what came of it. The first finding is the first in the log.
func (v *Verifier) Finish() Report {
	r := &v.report
	r.Last = v.end.seq
	r.Partial = v.pending != nil
	if !v.started {
		v.loose = nil
		v.find(Finding{Fault: Replaced, Text: "no line of an audit log's chain is in it"})
	} else if r.Signed == 0 && len(v.options.Keys)+len(v.options.Anchors) > 0 {
		// A process signs its first lines, so that a log without any signature
		// is one that somebody without the key has made up.
		v.find(Finding{Fault: Forged, File: v.ended.file, Line: v.ended.line, Seq: v.end.seq, Text: "no line up to here is signed"})
	}
	for _, g := range v.loose {
		v.note(g.order, Finding{Fault: Inserted, File: g.at.file, Line: g.at.line, Seq: 0, Text: "a line that is no record of this log, and of which the log does not say that a write broke off"})
	}
	if v.newest != nil && v.fits(*v.newest) {
		r.Anchored, r.AnchoredAt = v.newest.Seq, v.newest.Time
	}
	for _, a := range v.anchors {
		if !v.fits(a) {
			continue
		}
		v.find(Finding{Fault: CutOff, File: v.ended.file, Line: v.ended.line, Seq: v.end.seq, Text: fmt.Sprintf("the log ends here; line %d was anchored on %s", a.Seq, a.Time.Format(time.RFC3339))})
		break
	}
	if v.unfit != nil {
		v.find(Finding{Fault: Replaced, File: v.ended.file, Line: 0, Seq: 0, Text: "an anchor of this log does not fit its key: " + v.unfit.Error()})
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(a.order, b.order) })
	return *r
}

// Scan takes all lines of the log's files and closes them. Progress, where it is
// not nil, is told how many bytes were read. What cannot be read on is a finding;
// the error is that of the context, or of files that could not even be opened.
func (v *Verifier) Scan(ctx context.Context, files []logfile.Source, progress func(int64)) error {
	var closed []error
	err := logfile.Scan(ctx, files, func(b logfile.Block) logfile.Block { return b }, func(b logfile.Block) error {
		for line := range b.Lines() {
			if line.Ended {
				v.Line(line.File, line.Number, line.Text)
			} else {
				v.last(line.File, line.Number, line.Text)
			}
		}
		return nil
	}, logfile.Options{Progress: progress, Fault: func(f *logfile.ReadError) {
		if f.Line == 0 {
			closed = append(closed, f)
			return
		}
		v.find(Finding{Fault: Edited, File: f.File, Line: f.Line, Text: "it cannot be read here: " + f.Err.Error()})
	}})
	return errors.Join(append(closed, err)...)
}

// last takes a line that lacks its newline. At the end of the log that is a
// line which is just being written, or one of which a write has broken off: the
// chain does not hold it, and so it is no fault.
func (v *Verifier) last(file string, number int, line []byte) {
	if s, ok := parseStamp(line); ok && v.started && s.seq == v.end.seq+1 && s.prev == v.end.head {
		v.Line(file, number, line)
		return
	}
	v.pending = &garbage{place{file, number}, hashOf(line), v.report.Lines + 1}
}
