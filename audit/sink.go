package audit

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Sink writes whole lines to one destination, one after the other, and gives
// each its place in the chain. There is one Sink for a file, whoever shares the
// file: only so is the order of lines, and whether the last one is whole, known
// in one place.
//
// Lines that come at the same time go out in one call of the writer. Each caller
// still waits for its own: the way to the kernel and back, not the bytes, is
// what a record costs.
type Sink struct {
	writing sync.Mutex // held over a call of w, and for what stands here
	w       io.Writer
	chain   chain
	out     []byte // what goes out in one call
	ends    []int  // of the lines in it
	company int    // how many more writes are worth waiting for others

	torn bool   // a failed write has left the last line without its end
	due  []mark // what the chain has to tell with the next write
	last int    // how long its last line is, with its newline

	// Of a log in a file; nil, and unsigned, elsewhere.
	file    *file
	reserve *reserve
	keys    *Keys
	every   uint64 // lines between two checkpoints
	signed  uint64 // the number of the last one

	mu      sync.Mutex
	next    *batch   // gathers lines; nil until one comes
	spare   []*batch // to be used again
	err     error    // how the last write ended
	logs    []*Log   // whose records these are; replaced, never changed
	anchors []*anchor
	newest  *Signature // for an anchor that comes later; nil is none yet
}

// sociable is how many writes after the last crowd still give others the time
// to join. It costs a lone caller a few turns of the scheduler and no more.
const sociable = 64

// maxBatch bounds how many bytes of lines are written together, one that is
// longer for itself. With the reserve they fit into the smallest file that a log
// is rolled at: the writer refuses what does not.
const maxBatch = 256 << 10

// weight says what a line must have before its caller goes on.
type weight uint8

const (
	light      weight = iota // to be written
	change                   // to be on the disk
	revocation               // to be on the disk, in the reserve if need be
)

// entry is one line of a batch.
type entry struct {
	end      int // in the batch's lines
	weight   weight
	sign     bool // not a line but the wish for a checkpoint
	from     *Log // nil for the chain's own
	written  bool
	reserved bool // written into the reserve, and on the disk
}

// batch is lines that are written together.
type batch struct {
	lines   []byte
	entries []entry
	callers int // yet to leave
	done    sync.WaitGroup
	err     error // why not all were written
}

// NewSink makes the sink of a destination that nothing else writes to, with a
// chain that begins there. The destination stays the caller's to close.
func NewSink(w io.Writer) *Sink { return &Sink{w: w} }

// Write writes one line, which ends in a newline. After an error the line may
// stand in part or, where the writer says so, whole. A caller whose line went
// out whole before others met a full disk is told so.
func (s *Sink) Write(line []byte) (int, error) {
	if _, err := s.append(line, entry{}); err != nil {
		return 0, err
	}
	return len(line), nil
}

// append writes a line of this kind, and tells whether it went into the
// reserve.
func (s *Sink) append(line []byte, e entry) (reserved bool, err error) {
	b, i := s.join(line, e)
	if i == 0 { // the first in it writes it
		s.write(b)
	} else {
		b.done.Wait()
	}
	return s.leave(b, i)
}

// join adds a line to the batch that is gathering, and tells its number there.
func (s *Sink) join(line []byte, e entry) (b *batch, i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil && len(s.next.lines)+len(line) > maxBatch {
		s.next = nil // it waits for its first caller, who writes it
	}
	if s.next == nil {
		s.next = s.empty()
		s.next.done.Add(1)
	}
	b = s.next
	b.lines = append(b.lines, line...)
	e.end = len(b.lines)
	b.entries = append(b.entries, e)
	b.callers++
	return b, len(b.entries) - 1
}

func (s *Sink) empty() *batch {
	last := len(s.spare) - 1
	if last < 0 {
		return new(batch)
	}
	b := s.spare[last]
	s.spare = s.spare[:last]
	return b
}

// write writes a batch once the one before it is written. Lines join it until
// then.
func (s *Sink) write(b *batch) {
	if !s.writing.TryLock() {
		s.writing.Lock()
		s.company = sociable
	}
	defer s.writing.Unlock()
	if s.company > 0 {
		// Who waits to run may have a line, too. Alone, one would only wake
		// an idle processor by this.
		runtime.Gosched()
	}
	s.mu.Lock()
	if s.next == b {
		s.next = nil
	}
	if b.callers > 1 {
		s.company = sociable
	} else if s.company > 0 {
		s.company--
	}
	s.mu.Unlock()
	err := s.send(b)
	if errors.Is(err, errStrayed) {
		err = s.send(b) // into the file that is there now
	}
	if err != nil {
		s.spareRights(b)
	}
	s.mu.Lock()
	s.err, b.err = err, err
	s.mu.Unlock()
	b.done.Done()
}

// leave tells what became of a line of a batch. The last caller to leave puts
// the batch away.
func (s *Sink) leave(b *batch, i int) (reserved bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !b.entries[i].written {
		err = b.err
	}
	reserved = b.entries[i].reserved
	if b.callers--; b.callers == 0 {
		clear(b.entries)
		b.lines, b.entries, b.err = b.lines[:0], b.entries[:0], nil
		s.spare = append(s.spare, b)
	}
	return reserved, err
}

// send gives the lines of a batch their places and writes them, behind what is
// still to be told of writes that failed.
func (s *Sink) send(b *batch) error {
	pledged := s.pledged(b)
	if pledged {
		s.file.expect(s)
	}
	before := s.chain
	out, ends := s.out[:0], s.ends[:0]
	if s.torn {
		// Without its end the next record would be glued to what is left of
		// this one, and both would be lost to a reader.
		out = append(out, '\n')
	}
	out = append(out, s.reserve.waiting()...)
	lead := len(out)
	for _, m := range s.due {
		out = s.chain.stamp(out, m.line())
		ends = append(ends, len(out))
	}
	told := len(ends)
	start, sign := 0, false
	for i := range b.entries {
		e := &b.entries[i]
		if e.sign {
			sign = true
			continue
		}
		out = s.chain.stamp(out, b.lines[start:e.end])
		ends = append(ends, len(out))
		start = e.end
	}
	var signature Signature
	if sign || s.every > 0 && s.chain.seq-s.signed >= s.every {
		if signature = s.checkpoint(); signature.Note != "" {
			out = s.chain.stamp(out, mark{Kind: Checkpoint, Signed: signature.Note}.line())
			ends = append(ends, len(out))
		}
	}
	s.out, s.ends = out, ends
	if len(out) == 0 {
		b.settle(0)
		return nil
	}
	n, err := s.w.Write(out)
	if n != len(out) && err == nil {
		err = io.ErrShortWrite
	}
	whole, kept := len(ends), len(ends)
	if err == nil {
		s.torn = false
	} else {
		whole, kept = s.survey(before, lead, n)
	}
	s.due = slices.Delete(s.due, 0, min(told, whole))
	if whole > 0 {
		s.last = ends[whole-1] - lead
		if whole > 1 {
			s.last = ends[whole-1] - ends[whole-2]
		}
	}
	// What an anchor is told of must be found as well.
	if s.file != nil && n > 0 && !s.file.wrote(s, n, pledged || signature.Note != "") && pledged {
		kept, err = 0, cmp.Or(err, errStrayed)
	}
	b.settle(kept - told)
	if err == nil {
		s.reserve.moved(s.file)
	}
	s.copy(b, lead, told, whole)
	if whole == len(ends) && signature.Note != "" {
		s.signed = s.chain.seq
		s.tell(signature)
	}
	return err
}

// pledged reports whether what is written next must get into the file that the
// path names: it is to be on the disk, or was in the reserve and is then
// forgotten there.
func (s *Sink) pledged(b *batch) bool {
	return s.file != nil && (s.file.mode == Full || b.changes() || len(s.reserve.waiting()) > 0)
}

// changes reports whether a line of the batch is that of a change.
func (b *batch) changes() bool {
	return slices.ContainsFunc(b.entries, func(e entry) bool { return e.weight != light })
}

// settle notes that the first lines of the batch, of so many, were written. A
// wish for a checkpoint is not a line.
func (b *batch) settle(lines int) {
	for i := range b.entries {
		e := &b.entries[i]
		if e.sign {
			e.written = true
			continue
		}
		e.written = lines > 0
		lines--
	}
}

// checkpoint signs the lines that the chain has come to. Without a signature
// there is none: the next batch tries again.
func (s *Sink) checkpoint() Signature {
	if s.keys == nil || s.chain.seq == s.signed {
		return Signature{}
	}
	signature, err := s.keys.sign(s.chain, time.Now())
	if err != nil {
		return Signature{}
	}
	return signature
}

// survey finds out what a failed write, of which the destination took n bytes,
// has left: the chain goes on behind the last whole line. It returns how many
// of the lines are whole, and how many their callers may rely on.
func (s *Sink) survey(before chain, lead, n int) (whole, kept int) {
	s.chain = before
	if n <= 0 {
		return 0, 0 // all is as it was
	}
	at := s.reserve.took(s.out[:lead], n, s.torn)
	for at >= lead && whole < len(s.ends) && n >= s.ends[whole]-1 {
		// All but its newline is a whole line as well: it gets that from the
		// next write, and is a record then.
		end := s.ends[whole]
		s.chain.pass(s.out[at : end-1])
		whole++
		if n >= end && n < len(s.out) { // not where all was taken and an error told nevertheless
			kept = whole
		}
		at = end
	}
	s.torn = n != at && at <= len(s.out) && n <= len(s.out)
	if at < n && n <= len(s.out) {
		s.leftOver(s.out[at:n])
	}
	return whole, kept
}

// leftOver notes part of a line, for the chain to tell of it.
func (s *Sink) leftOver(part []byte) {
	sum := Hash(sha256.Sum256(part))
	s.due = append(s.due, mark{Kind: Torn, Bytes: len(part), SHA256: sum.String()})
}

// spareRights writes into the reserve what takes rights away and what the
// destination did not take. Mirrors get it now: nobody knows later whose it was.
func (s *Sink) spareRights(b *batch) {
	start := 0
	for i := range b.entries {
		e := &b.entries[i]
		line := b.lines[start:e.end]
		start = e.end
		if e.written || e.weight != revocation || s.reserve == nil {
			continue
		}
		after := s.chain
		if line = after.stamp(nil, line); s.reserve.put(line) == nil {
			s.chain = after
			e.written, e.reserved = true, true
			if e.from != nil {
				sendMirrors(e.from.mirrors, line)
			}
			s.each(func(l *Log) { l.events.AuditReserved() })
		}
	}
}

// copy hands the lines that were written to the mirrors: records to those of
// their own log, the chain's lines to all. It does so in the order of the
// chain, so that a mirror of all can be verified as well.
func (s *Sink) copy(b *batch, lead, told, whole int) {
	logs := s.attached()
	if !slices.ContainsFunc(logs, func(l *Log) bool { return len(l.mirrors) > 0 }) {
		return
	}
	out := slices.Clone(s.out) // it is used again
	at := lead
	entries := b.entries
	for i, end := range s.ends[:whole] {
		line := out[at:end]
		at = end
		var from *Log
		for i >= told && len(entries) > 0 {
			e := entries[0]
			entries = entries[1:]
			if !e.sign {
				from = e.from
				break
			}
		}
		if from != nil {
			sendMirrors(from.mirrors, line)
			continue
		}
		for _, l := range logs {
			sendMirrors(l.mirrors, line)
		}
	}
}

// attach makes a log one of those that the chain's own lines are told to.
func (s *Sink) attach(l *Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs = append(slices.Clone(s.logs), l)
}

func (s *Sink) detach(l *Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs = slices.DeleteFunc(slices.Clone(s.logs), func(other *Log) bool { return other == l })
}

func (s *Sink) attached() []*Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logs
}

func (s *Sink) each(do func(*Log)) {
	for _, l := range s.attached() {
		do(l)
	}
}

// failure returns the error of the last write, nil before the first one.
func (s *Sink) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// mustSync reports whether a record of this weight is to be on the disk before
// its caller goes on.
func (s *Sink) mustSync(w weight) bool {
	return s.file != nil && (w != light || s.file.mode == Full)
}

// synced waits until all that was written is on the disk, where there is one.
func (s *Sink) synced() error {
	if s.file == nil || s.file.device {
		return nil
	}
	return s.file.wait()
}
