package audit

import (
	"context"
	"slices"
	"time"
)

const (
	// anchorPatience bounds one attempt to put a checkpoint into an anchor.
	anchorPatience = 5 * time.Second
	// anchorEvery bounds how often an anchor is asked: a busy log is signed many
	// times a second, and the last signature covers those before it.
	anchorEvery = time.Second
	// anchorAgain is after what time an attempt that failed is made again.
	anchorAgain = 2 * time.Second
)

// Anchor is a place outside of the log that checkpoints are put into. What it
// holds cannot be denied later: whoever changes the log would have to change
// the anchor, too.
type Anchor func(context.Context, Signature) error

// anchor puts checkpoints into a place, behind the log's back. It holds the
// last one alone: that settles all before it.
type anchor struct {
	sink   *Sink
	put    Anchor
	events Events
	latest chan Signature
	stop   chan struct{}
	done   chan struct{}
}

// Anchor puts checkpoints into a place from now on. The function that it
// returns ends that; the end of the sink does so too, once the place has the
// last checkpoint.
func (s *Sink) Anchor(put Anchor, events Events) (end func()) {
	a := &anchor{s, put, events, make(chan Signature, 1), make(chan struct{}), make(chan struct{})}
	go a.run()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.anchors = append(slices.Clone(s.anchors), a)
	if s.newest != nil {
		a.latest <- *s.newest // the first in it
	}
	return func() {
		s.mu.Lock()
		at := slices.Index(s.anchors, a)
		if at >= 0 {
			s.anchors = slices.Delete(slices.Clone(s.anchors), at, at+1)
		}
		s.mu.Unlock()
		if at >= 0 {
			endAnchors(a)
		}
	}
}

// Witness takes a checkpoint of the log that was kept outside of it. Where that
// knows of more lines than the log has, the log was cut: it says so itself, and
// goes on behind what is missing, so that no number is given twice.
func (s *Sink) Witness(text string) {
	signature, err := ParseSignature(text, s.keys.publics())
	if err != nil || signature.Log != s.keys.origin {
		return
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if signature.Seq <= s.chain.seq {
		return
	}
	s.chain.seq = signature.Seq
	s.due = append(s.due, mark{Kind: Cut, Seq: signature.Seq})
}

// tell hands a checkpoint to the anchors.
func (s *Sink) tell(signature Signature) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = &signature
	for _, a := range s.anchors {
		a.offer(signature)
	}
}

// offer replaces a checkpoint that nobody has taken yet. The caller holds the
// sink's lock.
func (a *anchor) offer(signature Signature) {
	for {
		select {
		case a.latest <- signature:
			return
		default:
		}
		select {
		case <-a.latest:
		default:
		}
	}
}

func (a *anchor) run() {
	defer close(a.done)
	for {
		select {
		case <-a.stop:
			select {
			case signature := <-a.latest:
				a.try(signature) // the last one, once
			default:
			}
			return
		case signature := <-a.latest:
			for !a.try(signature) {
				if !a.pause(&signature) {
					return
				}
			}
			if a.rest() {
				return
			}
		}
	}
}

// rest waits until the anchor may be asked again, and reports whether it was
// stopped meanwhile: then it has the last checkpoint.
func (a *anchor) rest() (stopped bool) {
	timer := time.NewTimer(anchorEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false
	case <-a.stop:
	}
	select {
	case signature := <-a.latest:
		a.try(signature)
	default:
	}
	return true
}

// pause waits before the next attempt, which is then made with the checkpoint
// that came meanwhile. It reports whether there is to be one.
func (a *anchor) pause(signature *Signature) bool {
	timer := time.NewTimer(anchorAgain)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.stop:
		return false
	}
	select {
	case *signature = <-a.latest:
	default:
	}
	return true
}

// try makes one attempt. What an anchor knows of must be on the log's own disk:
// a machine that lost its power would else seem to have cut its log.
func (a *anchor) try(signature Signature) bool {
	ctx, cancel := context.WithTimeout(context.Background(), anchorPatience)
	defer cancel()
	err := a.sink.synced()
	if err == nil {
		err = a.put(ctx, signature)
	}
	a.events.AuditAnchored(signature.Time, err)
	return err == nil
}

// closeAnchors ends all of them, each with the last checkpoint.
func (s *Sink) closeAnchors() {
	s.mu.Lock()
	anchors := s.anchors
	s.anchors = nil
	s.mu.Unlock()
	endAnchors(anchors...)
}

// endAnchors waits, for a bounded time, until they have the last checkpoint. One
// that does not take it in time ends by itself.
func endAnchors(anchors ...*anchor) {
	for _, a := range anchors {
		close(a.stop)
	}
	timer := time.NewTimer(2 * anchorPatience)
	defer timer.Stop()
	for _, a := range anchors {
		select {
		case <-a.done:
		case <-timer.C:
			return
		}
	}
}
