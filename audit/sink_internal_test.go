package audit

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
)

var errFull = errors.New("no space left")

// gate is a disk that is slow once: its first write ends when it is let go on.
// Every later one fails.
type gate struct {
	busy, goOn chan struct{}
	mu         sync.Mutex
	writes     [][]byte
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	g.writes = append(g.writes, bytes.Clone(p))
	first := len(g.writes) == 1
	g.mu.Unlock()
	if !first {
		return 0, errFull
	}
	close(g.busy)
	<-g.goOn
	return len(p), nil
}

// Records that wait for the disk together are written together, and if that
// fails none of their callers may go on.
func TestRecordsThatWaitShareAWrite(t *testing.T) {
	const waiting = 20
	g := &gate{busy: make(chan struct{}), goOn: make(chan struct{})}
	sink := NewSink(g)
	write := func() error {
		_, err := sink.Write([]byte("line\n"))
		return err
	}
	alone := make(chan error)
	go func() { alone <- write() }()
	<-g.busy
	together := make(chan error)
	for range waiting {
		go func() { together <- write() }()
	}
	for joined := 0; joined < waiting; runtime.Gosched() {
		sink.mu.Lock()
		if joined = 0; sink.next != nil {
			joined = sink.next.callers
		}
		sink.mu.Unlock()
	}
	close(g.goOn)
	if err := <-alone; err != nil {
		t.Errorf("the first record: %v", err)
	}
	for range waiting {
		if err := <-together; !errors.Is(err, errFull) {
			t.Errorf("a record that was not written: %v", err)
		}
	}
	if len(g.writes) != 2 || bytes.Count(g.writes[1], []byte("\n")) != waiting {
		t.Errorf("%d writes for records that waited together", len(g.writes)-1)
	}
}

// However many wait, what is written together fits into the smallest file that
// the writer rolls at: it refuses what does not, and all of them with it.
func TestRecordsThatWaitFitIntoAFile(t *testing.T) {
	var out bytes.Buffer
	s := NewSink(&out)
	var batches []*batch
	for i := range 100 {
		line := slices.Concat([]byte("{"), bytes.Repeat([]byte("x"), 20<<10), newline)
		if i == 50 {
			line = slices.Concat([]byte("{"), bytes.Repeat([]byte("x"), 2*maxBatch), newline)
		}
		if b, first := s.join(line, entry{}); first == 0 {
			batches = append(batches, b)
		}
	}
	for _, b := range batches {
		if len(b.lines) > maxBatch && len(b.entries) > 1 {
			t.Errorf("%d bytes are written together", len(b.lines))
		}
		s.write(b)
	}
	if n := bytes.Count(out.Bytes(), newline); n != 100 || len(batches) > 20 {
		t.Errorf("%d lines in %d batches", n, len(batches))
	}
}
