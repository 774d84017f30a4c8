package audit

import (
	"encoding/json"
	"fmt"
	"time"
)

// resume finds the end of the log and writes what a start has to say.
func (s *Sink) resume() error {
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
	// Without a reserve a gateway runs, and cannot take rights away while the
	// disk is full; the watch tries again to make one.
	s.reserve, _ = openReserve(f.path+".reserve", &s.chain)
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
	b := &batch{}
	b.done.Add(1)
	for _, e := range end.lost() {
		b.lines = append(b.lines, e.line()...)
		b.entries = append(b.entries, entry{end: len(b.lines)})
	}
	b.entries = append(b.entries, entry{end: len(b.lines), sign: true})
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.send(b); err != nil {
		return fmt.Errorf("writing the first line of the process: %w", err)
	}
	return s.file.flush()
}

// line says of an exchange that its process died before it ended.
func (e exchange) line() []byte {
	b, err := json.Marshal(struct {
		Time       time.Time `json:"ts"`
		Msg        string    `json:"msg"`
		Gateway    string    `json:"gateway,omitempty"`
		UUID       string    `json:"uuid"`
		Phase      Phase     `json:"phase"`
		Team       string    `json:"team,omitempty"`
		Credential string    `json:"credential,omitempty"`
		Change     string    `json:"change,omitempty"`
		Operation  string    `json:"operation,omitempty"`
		TokenID    string    `json:"token_id,omitempty"`
	}{time.Now().UTC(), message, e.Gateway, e.UUID, Lost, e.Team, e.Credential, e.Change, e.Operation, e.TokenID})
	if err != nil {
		panic(err) // texts alone
	}
	return append(b, '\n')
}
