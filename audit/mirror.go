package audit

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

const (
	// mirrorQueue is how many lines wait for a mirror: about 1 MB, or a
	// second of a busy gateway.
	mirrorQueue = 2048

	// closeWait bounds how long Close waits for all mirrors together. A
	// stuck collector must not hold up a reload.
	closeWait = 2 * time.Second

	// mirrorDeadline is how long a mirror may take for a line. One that takes
	// longer is cut off: what waits for it is dropped, and it gets nothing
	// more until it has answered.
	mirrorDeadline = 5 * time.Second
)

// mirror copies lines to a writer that may be slow, stuck or broken.
type mirror struct {
	w       io.Writer
	torn    bool // the last line lacks its end
	queue   chan []byte
	stop    chan struct{} // closed: write what is queued, then end
	abandon chan struct{} // closed: do not even write what is queued
	done    chan struct{} // closed by run when it ends
	events  Events

	since atomic.Int64 // when the write that is under way began; 0 is none
	cut   bool         // of the one who sends
}

func newMirror(w io.Writer, events Events) *mirror {
	m := &mirror{
		w:       w,
		queue:   make(chan []byte, mirrorQueue),
		stop:    make(chan struct{}),
		abandon: make(chan struct{}),
		done:    make(chan struct{}),
		events:  events,
	}
	go m.run()
	return m
}

// sendMirrors queues a line for mirrors, and never blocks. They keep it.
func sendMirrors(mirrors []*mirror, line []byte) {
	for _, m := range mirrors {
		if m.late() {
			m.events.MirrorDropped()
			continue
		}
		select {
		case m.queue <- line:
		default:
			m.events.MirrorDropped()
		}
	}
}

// late reports whether the mirror is cut off, and cuts it off where it has
// become late. The sink calls it, one line after the other.
func (m *mirror) late() bool {
	since := m.since.Load()
	if since == 0 || time.Since(time.Unix(0, since)) < mirrorDeadline {
		m.cut = false
		return false
	}
	if m.cut {
		return true
	}
	m.cut = true
	m.events.MirrorCut()
	for {
		select {
		case <-m.queue: // a collector is better off with what is new
			m.events.MirrorDropped()
		default:
			return true
		}
	}
}

func (m *mirror) run() {
	defer close(m.done)
	for {
		select {
		case line := <-m.queue:
			m.copy(line)
		case <-m.stop:
			m.drain()
			return
		}
	}
}

func (m *mirror) drain() {
	for {
		select {
		case line := <-m.queue:
			m.copy(line)
		default:
			return
		}
	}
}

// copy copies a line, or drops it once nobody waits for the mirror any more.
func (m *mirror) copy(line []byte) {
	select {
	case <-m.abandon:
		m.events.MirrorDropped()
		return
	default:
	}
	m.since.Store(time.Now().UnixNano())
	defer m.since.Store(0)
	if m.write(line) != nil {
		m.events.MirrorDropped()
	}
}

// write writes a line, behind the end of one that was torn.
func (m *mirror) write(line []byte) error {
	if m.torn {
		if _, err := m.w.Write(newline); err != nil {
			return err
		}
		m.torn = false
	}
	n, err := m.w.Write(line)
	if n != len(line) && err == nil {
		err = io.ErrShortWrite
	}
	m.torn = n > 0 && n < len(line)
	return err
}

// closeMirrors ends all mirrors. One that does not finish in time is told of,
// and ends by itself when its writer returns, at the latest once that is closed.
func closeMirrors(mirrors []*mirror) error {
	for _, m := range mirrors {
		close(m.stop)
	}
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	for i, m := range mirrors {
		select {
		case <-m.done:
		case <-timer.C:
			return abandonMirrors(mirrors[i:])
		}
	}
	return nil
}

func abandonMirrors(mirrors []*mirror) error {
	stuck := 0
	for _, m := range mirrors {
		close(m.abandon)
		select {
		case <-m.done:
		default:
			stuck++
		}
	}
	return fmt.Errorf("closing the audit mirrors: %d did not take their last records within %s", stuck, closeWait)
}
