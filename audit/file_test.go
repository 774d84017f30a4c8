package audit_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/scopegate/scopegate/audit"
)

// roller appends to a file and rolls it by size, as Caddy's writer does.
type roller struct {
	path string
	most int64
	file *os.File
	next *int  // of the names of rolled files
	full *bool // the disk has no room
}

func (r *roller) Write(p []byte) (int, error) {
	if *r.full {
		n, _ := r.file.Write(p[:min(len(p), 9)])
		return n, syscall.ENOSPC
	}
	if int64(len(p)) > r.most {
		return 0, fmt.Errorf("write length %d exceeds maximum file size %d", len(p), r.most)
	}
	info, err := r.file.Stat()
	if err != nil {
		return 0, err
	}
	if info.Size() > 0 && info.Size()+int64(len(p)) > r.most {
		if err := errors.Join(r.file.Close(), os.Rename(r.path, rolled(r.path, r.next))); err != nil {
			return 0, err
		}
		if r.file, err = os.Create(r.path); err != nil {
			return 0, err
		}
	}
	return r.file.Write(p)
}

func rolled(path string, next *int) string {
	*next++
	return fmt.Sprintf("%s-%03d-size.jsonl", strings.TrimSuffix(path, ".jsonl"), *next)
}

func (r *roller) Close() error { return r.file.Close() }

// place is where a test keeps a log.
type place struct {
	path string
	most int64
	keys *audit.Keys
	next int
	full bool
}

func newPlace(t *testing.T) *place {
	t.Helper()
	return &place{path: filepath.Join(t.TempDir(), "audit.jsonl"), most: 1 << 20, keys: keys(t)}
}

func keys(t testing.TB) *audit.Keys {
	t.Helper()
	text, err := audit.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	k, err := audit.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (p *place) options() audit.FileOptions {
	return audit.FileOptions{
		Path: p.path, Keys: p.keys, Records: 100, Every: audit.DefaultEvery, Durability: audit.Changes,
		Open: func() (io.WriteCloser, error) {
			f, err := os.OpenFile(p.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			return &roller{p.path, p.most, f, &p.next, &p.full}, err
		},
	}
}

// open opens the log and returns how to end it.
func (p *place) open(t *testing.T) (s *audit.Sink, l *audit.Log, end func()) {
	t.Helper()
	s, err := audit.Open(p.options())
	if err != nil {
		t.Fatal(err)
	}
	l, err = audit.New(audit.Options{Gateway: "default", Durable: s, Events: &counts{}})
	if err != nil {
		t.Fatal(err)
	}
	return s, l, func() {
		if err := errors.Join(l.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	}
}

// lines are all lines of the log, rolled ones first.
func (p *place) lines(t *testing.T) []byte {
	t.Helper()
	files, err := filepath.Glob(strings.TrimSuffix(p.path, ".jsonl") + "-*")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	var all []byte
	for _, file := range append(files, p.path) {
		all = append(all, read(t, file)...)
	}
	return all
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func write(t *testing.T, l *audit.Log, n int) {
	t.Helper()
	for range n {
		if err := l.Write(decided()); err != nil {
			t.Fatal(err)
		}
	}
}

// A chain goes on over restarts and over files that Caddy's writer rolls, also
// where the process ended just behind a roll.
func TestChainGoesOnOverRestartsAndRolls(t *testing.T) {
	p := newPlace(t)
	p.most = 4000
	for range 5 {
		_, l, end := p.open(t)
		write(t, l, 30)
		end()
		if err := os.Rename(p.path, rolled(p.path, &p.next)); err != nil {
			t.Fatal(err)
		}
		_, l, end = p.open(t)
		write(t, l, 1)
		end()
	}
	r := sound(t, p.lines(t))
	if r.Segments != 10 || r.Unclosed != 0 || r.Records != 155 || r.Signed != r.Last-1 {
		t.Errorf("report: %+v", r)
	}
}

// crash ends a log as a crash does: what is in the file stays, and nothing more
// is written.
func (p *place) crash(t *testing.T, s *audit.Sink) {
	t.Helper()
	text := p.lines(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A process that dies leaves exchanges that did not end, and part of a line:
// the next start says so of both.
func TestStartClosesWhatACrashLeft(t *testing.T) {
	tests := []struct {
		name string
		rest string // behind the last record
		torn int
	}{
		{"in good order but for its end", "", 0},
		{"part of a line", `{"seq":9,"prev`, 1},
		{"one byte", "{", 1},
		{"a line that is none, with its end", "}{\n", 1},
		{"two of them, and part of one", "a\n\nb", 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			s, l, _ := p.open(t)
			for i, phases := range [][]audit.Phase{{audit.Decided}, {audit.Decided, audit.Ended}, {audit.Decided}} {
				for _, phase := range phases {
					r := decided()
					r.UUID, r.Phase = fmt.Sprint("u", i), phase
					if err := l.Write(r); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			p.crash(t, s)
			if err := os.WriteFile(p.path, append(p.lines(t), tt.rest...), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second start has nothing to add
				_, _, end := p.open(t)
				end()
			}
			r := sound(t, p.lines(t))
			if r.Torn != tt.torn || r.Unclosed != 1 || r.Segments != 3 {
				t.Errorf("report: %+v", r)
			}
			var lost []string
			for line := range bytes.Lines(p.lines(t)) {
				if bytes.Contains(line, []byte(`"phase":"lost"`)) {
					lost = append(lost, decode(t, line)[0]["uuid"].(string))
				}
			}
			if !slices.Equal(lost, []string{"u0", "u2"}) {
				t.Errorf("lost: %v", lost)
			}
		})
	}
}

// A line that lacks nothing but its newline is a record: the one who waited for
// it may have been told so.
func TestStartKeepsALineThatLacksItsNewline(t *testing.T) {
	p := newPlace(t)
	s, l, _ := p.open(t)
	write(t, l, 3)
	p.crash(t, s)
	if err := os.WriteFile(p.path, bytes.TrimSuffix(p.lines(t), []byte("\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, end := p.open(t)
	end()
	if r := sound(t, p.lines(t)); r.Torn != 0 || r.Records != 4 { // one is that the exchange was lost
		t.Errorf("report: %+v", r)
	}
}

// What an earlier version wrote stays, and the chain holds on to the end of it.
func TestChainBeginsBehindOlderLines(t *testing.T) {
	p := newPlace(t)
	older := []byte("{\"ts\":\"a\"}\n{\"ts\":\"b\"}\n")
	if err := os.WriteFile(p.path, older, 0o600); err != nil {
		t.Fatal(err)
	}
	_, l, end := p.open(t)
	write(t, l, 1)
	end()
	if r := sound(t, p.lines(t)); r.Unchained != 2 || r.First != 1 {
		t.Errorf("report: %+v", r)
	}
	changed := bytes.Replace(p.lines(t), []byte(`"b"`), []byte(`"c"`), 1)
	if r := verified(changed, audit.VerifyOptions{}); r.Sound() || r.Findings[0].Line != 2 {
		t.Errorf("the line that the chain holds on to was changed: %+v", r.Findings)
	}
}

func TestOpenRejectsALogInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // for its clock: a start has patience
		p := newPlace(t)
		_, _, end := p.open(t)
		if _, err := audit.Open(p.options()); !errors.Is(err, audit.ErrInUse) {
			t.Errorf("err = %v", err)
		}
		end()
		_, _, end = p.open(t)
		end()
	})
}

// While the disk is full nothing is recorded but what takes rights away; once
// there is room that is in the log, in its place.
func TestReserveKeepsRevocationsOnAFullDisk(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprint("crash ", crash), func(t *testing.T) {
			p := newPlace(t)
			s, l, end := p.open(t)
			write(t, l, 2)
			p.full = true
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					if l.Write(decided()) == nil || l.WriteChange(decided()) == nil {
						t.Error("a record was kept on a full disk")
					}
					r := decided()
					r.Operation = "revokeToken"
					if err := l.WriteRevocation(r); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if crash {
				_ = l.Close()
				_ = s.Close() // cannot write that it ends
				p.full = false
				_, l, end = p.open(t)
			}
			p.full = false
			write(t, l, 1)
			end()
			r := sound(t, p.lines(t))
			if n := bytes.Count(p.lines(t), []byte("revokeToken")); n < 8 {
				t.Errorf("%d of 8 revocations are in the log", n)
			}
			if r.Torn == 0 {
				t.Errorf("report: %+v", r)
			}
			// What was moved is not moved again.
			_, _, end = p.open(t)
			end()
			sound(t, p.lines(t))
		})
	}
}

// Whoever deletes the log, puts another in its place or cuts it while the
// gateway runs does not make the next change vanish.
func TestDeletedLogIsMadeAgain(t *testing.T) {
	tests := map[string]func(path string) error{
		"deleted":  os.Remove,
		"moved":    func(path string) error { return os.Rename(path, path+".old") },
		"replaced": func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, []byte("x\n"), 0o600)) },
		"cut":      func(path string) error { return os.Truncate(path, 0) },
		// As logrotate does it, with `create` and with `copytruncate`.
		"moved, and another made": func(path string) error {
			return errors.Join(os.Rename(path, path+".1"), os.WriteFile(path, nil, 0o600))
		},
		"cut, and as long again": func(path string) error {
			text, err := os.ReadFile(path)
			return errors.Join(err, os.Truncate(path, 0), os.WriteFile(path, bytes.Repeat([]byte("x"), len(text)-1), 0o600))
		},
	}
	for name, harm := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			_, l, end := p.open(t)
			write(t, l, 5)
			if err := l.WriteChange(decided()); err != nil {
				t.Fatal(err)
			}
			if err := harm(p.path); err != nil {
				t.Fatal(err)
			}
			r := decided()
			r.UUID = "afterwards"
			if err := l.WriteChange(r); err != nil {
				t.Fatal(err)
			}
			end()
			text, err := os.ReadFile(p.path)
			if err != nil || !bytes.Contains(text, []byte("afterwards")) || !bytes.Contains(text, []byte(`"kind":"reopened"`)) {
				t.Errorf("the log holds %q, %v", text, err)
			}
			if report := verified(text, audit.VerifyOptions{}); report.Sound() {
				t.Error("the log is called whole")
			}
			for _, moved := range []string{".old", ".1"} { // as the documentation says, `cat` puts it together again
				if before, err := os.ReadFile(p.path + moved); err == nil {
					sound(t, append(before, text...))
				}
			}
		})
	}
}

// The writer goes on where it was in a file that it has made itself: cut, that
// has zeros where the log was, and is as long as it should be.
func TestCutLogIsNoticedBehindItsHole(t *testing.T) {
	p := newPlace(t)
	p.most = 4 << 10
	_, l, end := p.open(t)
	for p.next == 0 {
		write(t, l, 1)
	}
	if err := l.WriteChange(decided()); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(p.path, 0); err != nil {
		t.Fatal(err)
	}
	p.most = 1 << 20
	write(t, l, 2) // behind the hole
	if err := l.WriteChange(decided()); err != nil {
		t.Fatal(err)
	}
	end()
	if text := read(t, p.path); !bytes.Contains(text, []byte{0, 0}) || !bytes.Contains(text, []byte(`"kind":"reopened"`)) {
		t.Errorf("the log holds %q", bytes.Trim(text, "\x00"))
	}
}

// Whoever moves the log to where the writer would have rolled it to, and makes
// an empty one, does not have the next change recorded in the one he moved.
func TestLogIsNotFollowedToWhereSomebodyMovedIt(t *testing.T) {
	p := newPlace(t)
	_, l, end := p.open(t)
	write(t, l, 5)
	if err := errors.Join(os.Rename(p.path, rolled(p.path, &p.next)), os.WriteFile(p.path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	r := decided()
	r.UUID = "afterwards"
	if err := l.WriteChange(r); err != nil {
		t.Fatal(err)
	}
	end()
	if text := read(t, p.path); !bytes.Contains(text, []byte("afterwards")) {
		t.Errorf("the log holds %q", text)
	}
	sound(t, p.lines(t)) // nothing is missing: it is as if it had been rolled
}

// The log goes on under a new key once the one before has signed it, and under
// no other.
func TestKeyChangeIsVouchedFor(t *testing.T) {
	p := newPlace(t)
	first, err := audit.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	second, err := audit.Rotated(first)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{first, second} {
		if p.keys, err = audit.ParseKeys(text); err != nil {
			t.Fatal(err)
		}
		_, l, end := p.open(t)
		write(t, l, 3)
		end()
	}
	was, _ := audit.ParseKeys(first)
	if r := verified(p.lines(t), audit.VerifyOptions{Keys: []string{was.Public()}}); !r.Sound() || was.Public() == p.keys.Public() {
		t.Errorf("under a new key: %+v", r.Findings)
	}
	p.keys = keys(t)
	_, _, end := p.open(t)
	end()
	if r := verified(p.lines(t), audit.VerifyOptions{}); r.Sound() {
		t.Error("the log went on under anyone's key")
	}
}

// An insider stops the gateway, cuts the log's end off and starts it again. What
// was anchored gives it away, at once and to whoever verifies the log later; and
// no number is given to a second line.
func TestWitnessTellsOfACut(t *testing.T) {
	p := newPlace(t)
	s, l, end := p.open(t)
	kept := &shelf{}
	s.Anchor(kept.put, &counts{})
	write(t, l, 250)
	end()
	lines := bytes.SplitAfter(p.lines(t), []byte("\n"))
	if err := os.WriteFile(p.path, bytes.Join(lines[:150], nil), 0o600); err != nil {
		t.Fatal(err)
	}
	s, l, end = p.open(t)
	s.Witness("not a signature")
	for _, note := range kept.notes {
		s.Witness(note)
	}
	write(t, l, 1)
	end()
	r := verified(p.lines(t), audit.VerifyOptions{})
	if r.Sound() || r.Findings[0].Fault != audit.Removed || r.Last < uint64(len(lines)) {
		t.Errorf("report: %+v", r)
	}
	if !slices.ContainsFunc(r.Findings, func(f audit.Finding) bool { return f.Fault == audit.CutOff }) {
		t.Errorf("the log does not say that it was cut: %+v", r.Findings)
	}
}

// The writer rolled the file while an exchange went on, and then the process
// died: the record of the decision is in the file before.
func TestStartClosesWhatStandsInAnOlderFile(t *testing.T) {
	p := newPlace(t)
	p.most = 4000
	s, l, _ := p.open(t)
	first := decided()
	first.UUID = "older"
	if err := l.Write(first); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		r := decided()
		for _, r.Phase = range []audit.Phase{audit.Decided, audit.Ended} {
			if err := l.Write(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	text := read(t, p.path)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.path, text, 0o600); err != nil || bytes.Contains(text, []byte(`"older"`)) {
		t.Fatal("not rolled")
	}
	_, _, end := p.open(t)
	end()
	sound(t, p.lines(t))
	if n := bytes.Count(p.lines(t), []byte(`"uuid":"older","phase":"lost"`)); n != 1 {
		t.Errorf("%d lines say that it was lost", n)
	}
}

// Whoever can write the file, or a gateway whose second records all failed, leaves
// exchanges without number, and names without end. The next start takes none of
// it for more than a record is, and writes no more at once than a file can hold.
func TestStartIsBoundedWhateverTheFileHolds(t *testing.T) {
	p := newPlace(t)
	p.most = 16 << 20
	s, l, _ := p.open(t)
	r := decided()
	for i := range 6000 {
		r.UUID = fmt.Sprint("u", i)
		if err := l.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p.crash(t, s)
	text := p.lines(t)
	last := text[bytes.LastIndexByte(text[:len(text)-1], '\n')+1:]
	seq, _, _ := bytes.Cut(last[len(`{"seq":`):], []byte(","))
	n, err := strconv.Atoi(string(seq))
	if err != nil {
		t.Fatal(err)
	}
	strange := fmt.Sprintf(`{"seq":%d,"prev":"%x","ts":"","msg":"audit","gateway":"\u202e","uuid":"%s","phase":"decided","decision":"allow"}`+"\n",
		n+1, sha256.Sum256(bytes.TrimSuffix(last, []byte("\n"))), strings.Repeat("u", 3<<20))
	if err := os.WriteFile(p.path, append(text, strange...), 0o600); err != nil {
		t.Fatal(err)
	}
	p.most = 1 << 20
	_, _, end := p.open(t)
	end()
	lost := 0
	for line := range bytes.Lines(p.lines(t)) {
		if !bytes.Contains(line, []byte(`"phase":"lost"`)) {
			continue
		}
		lost++
		if len(line) > 1000 || bytes.ContainsRune(line, 0x202e) || bytes.Contains(line, []byte(`\u202e`)) {
			t.Errorf("%.100s", line)
		}
	}
	if r := sound(t, p.lines(t)); lost != 6001 || r.Segments != 2 {
		t.Errorf("%d are lost; %+v", lost, r)
	}
}

// A gateway that has no reserve runs, and says so: on the day on which the disk
// is full it is too late.
func TestOpenTellsOfAReserveThatCannotBeMade(t *testing.T) {
	p := newPlace(t)
	if err := os.Mkdir(p.path+".reserve", 0o700); err != nil {
		t.Fatal(err)
	}
	var told []error
	o := p.options()
	o.Failed = func(err error) { told = append(told, err) }
	s, err := audit.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if len(told) != 1 || !strings.Contains(told[0].Error(), p.path+".reserve") || !strings.Contains(told[0].Error(), "revoked") {
		t.Errorf("told: %v", told)
	}
	sound(t, p.lines(t))
}
