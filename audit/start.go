package audit

import (
	"fmt"
	"time"
)

// maxFirst is about how much a start writes at once. With what a broken write and
// the reserve have left it is less than the smallest file that a log is rolled at:
// the writer refuses what does not fit into one.
const maxFirst = 64 << 10

// resume finds the end of the log and writes what a start has to say.
func (s *Sink) resume(tell func(error)) error {
	f := s.file
	if !f.look(false) {
		return fmt.Errorf("looking at %s: it is not where it was made", f.path)
	}
	if f.device {
		return s.start(tail{})
	}
	if err := f.acquire(); err != nil {
		return fmt.Errorf("opening %s: %w", f.path, err)
	}
	end, err := readTail(f.path)
	if err != nil {
		return fmt.Errorf("reading how %s ends: %w", f.path, err)
	}
	s.chain, s.torn, s.due, s.last = end.chain, end.torn, end.due, end.last
	if s.reserve, err = openReserve(f.path+".reserve", &s.chain); err != nil {
		// The gateway runs; the watch tries again to make one.
		tell(fmt.Errorf("%w; until there is one, nothing can be revoked while the disk is full", err))
	}
	return s.start(end)
}

// start writes the first lines of a process.
func (s *Sink) start(end tail) error {
	k := s.keys
	if len(k.older) > 0 {
		signed, err := k.vouch()
		if err != nil {
			return err
		}
		s.due = append(s.due, mark{Kind: KeyChange, Log: k.origin, Key: k.public, Signed: signed})
	}
	s.due = append(s.due, mark{Kind: Segment, Log: k.origin, Key: k.public})
	s.writing.Lock()
	defer s.writing.Unlock()
	b := &batch{}
	for _, e := range end.lost() {
		b.lines = append(b.lines, e.line()...)
		b.entries = append(b.entries, entry{end: len(b.lines)})
		if len(b.lines) < maxFirst {
			continue
		}
		if err := s.send(b); err != nil {
			return fmt.Errorf("writing the first lines of the process: %w", err)
		}
		b = &batch{}
	}
	b.entries = append(b.entries, entry{end: len(b.lines), sign: true})
	if err := s.send(b); err != nil {
		return fmt.Errorf("writing the first lines of the process: %w", err)
	}
	return s.file.flush()
}

// line says of an exchange that its process died before it ended. It is a record
// as any other, whatever it says in the file.
func (e exchange) line() []byte {
	b := time.Now().UTC().AppendFormat([]byte(`{"ts":"`), time.RFC3339Nano)
	b = appendText(append(b, `","msg":"`+message+`"`...), "gateway", e.Gateway)
	r := Record{
		UUID: e.UUID, Phase: Lost, Team: e.Team, Credential: e.Credential,
		Change: e.Change, Operation: e.Operation, TokenID: e.TokenID,
	}
	return append(r.append(b), '}', '\n')
}
