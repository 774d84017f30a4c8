package audit_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMirrorsHoldWhatTheLogHolds(t *testing.T) {
	var durable, first, second file
	l := open(t, &durable, nil, &first, &second)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				if err := l.Write(decided()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// Those who write at once reach the mirrors in any order.
	want := lineCounts(durable.bytes())
	for _, m := range []*file{&first, &second} {
		if diff := cmp.Diff(want, lineCounts(m.bytes())); diff != "" {
			t.Errorf("mirror (-durable +mirror):\n%s", diff)
		}
	}
}

func lineCounts(log []byte) map[string]int {
	n := map[string]int{}
	for line := range strings.Lines(string(log)) {
		n[line]++
	}
	return n
}

// A mirror that shows a request which was refused for want of a record would
// tell of something that did not happen.
func TestMirrorsRejectWhatTheLogDoesNotHold(t *testing.T) {
	var mirror file
	l := open(t, &faulty{script: []step{{7, errDisk}}}, nil, &mirror)
	if err := l.Write(decided()); err == nil {
		t.Fatal("the write worked")
	}
	if err := errors.Join(l.Write(decided()), l.Close()); err != nil {
		t.Fatal(err)
	}
	if n := len(mirror.records(t)); n != 1 {
		t.Errorf("%d records in the mirror, want 1", n)
	}
}

// The collector behind a mirror is reset now and then: its half line spoils no
// other, no request notices, and what is missing is counted.
func TestMirrorFailuresAreOnlyCounted(t *testing.T) {
	w := &faulty{script: []step{{-1, nil}, {3, errDisk}, {0, errDisk}}}
	events := &counts{}
	l := open(t, &file{}, events, w)
	for range 4 {
		if err := l.Write(decided()); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(l.Healthy(), l.Close()); err != nil {
		t.Error(err)
	}
	lines := strings.SplitAfter(string(w.bytes()), "\n")
	if n := len(decode(t, []byte(lines[0]+strings.Join(lines[2:], "")))); n != 2 || lines[1] != "{\"s\n" {
		t.Errorf("mirror = %q, want two records and a closed torn line", lines)
	}
	if events.dropped != 2 || events.failed != 0 {
		t.Errorf("%d dropped, %d failed; want 2, 0", events.dropped, events.failed)
	}
}

// stuck is a writer that hangs until it is let go, as a collector does that
// accepts a connection and then reads nothing.
type stuck struct {
	file
	letGo   chan struct{}
	entered atomic.Int64
}

func (s *stuck) Write(p []byte) (int, error) {
	s.entered.Add(1)
	<-s.letGo
	return s.file.Write(p)
}

func TestMirrorThatHangsBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const writes = 5000
		durable, good, events := &file{}, &file{}, &counts{}
		hung := &stuck{letGo: make(chan struct{})}
		l := open(t, durable, events, hung, good)
		start := time.Now()
		for range writes {
			if err := l.Write(decided()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // the good mirror keeps up
		}
		if n := events.drops(); n != writes-2048-1 {
			t.Errorf("%d dropped, want all but the queue and the one being written", n)
		}

		// Closing waits, but not for ever, and says what it left behind.
		if err := l.Close(); err == nil || !strings.Contains(err.Error(), "1 did not take") {
			t.Errorf("Close = %v, want an error about the one mirror", err)
		}
		if waited := time.Since(start); waited != 2*time.Second {
			t.Errorf("Close waited %s", waited)
		}
		if got, want := len(good.records(t)), len(durable.records(t)); got != want || want != writes {
			t.Errorf("%d records in the good mirror, %d in the log, want %d", got, want, writes)
		}

		// Let go, it ends: what it has not begun is dropped, and counted.
		close(hung.letGo)
		synctest.Wait()
		if n := events.drops(); n != writes-1 || hung.entered.Load() != 1 {
			t.Errorf("%d dropped, %d writes begun; want %d and 1", n, hung.entered.Load(), writes-1)
		}
	})
}

// Two hung mirrors share the bounded wait; neither makes the other forgotten.
func TestCloseWaitsOnceForAllMirrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		letGo := make(chan struct{})
		l := open(t, &file{}, nil, &stuck{letGo: letGo}, &stuck{letGo: letGo})
		if err := l.Write(decided()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := l.Close(); err == nil || !strings.Contains(err.Error(), "2 did not take") {
			t.Errorf("Close = %v, want an error about both", err)
		}
		if waited := time.Since(start); waited != 2*time.Second {
			t.Errorf("Close waited %s", waited)
		}
		close(letGo)
	})
}

// What was sent before Close arrives, if only the mirror is quick enough.
func TestCloseFlushesMirrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &stuck{letGo: make(chan struct{})}
		l := open(t, &file{}, nil, slow)
		for range 100 {
			if err := l.Write(decided()); err != nil {
				t.Fatal(err)
			}
		}
		time.AfterFunc(time.Second, func() { close(slow.letGo) })
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if n := len(slow.records(t)); n != 100 {
			t.Errorf("%d records, want 100", n)
		}
	})
}

// A collector that hangs and comes back gets what is new, not what is stale, and
// whoever runs the gateway is told that it was cut off.
func TestMirrorThatIsLateIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		durable, events := &file{}, &counts{}
		hung := &stuck{letGo: make(chan struct{})}
		l := open(t, durable, events, hung)
		write(t, l, 100)
		synctest.Wait()
		time.Sleep(6 * time.Second)
		write(t, l, 50)
		if events.cut != 1 || events.drops() != 99+50 {
			t.Errorf("%d times cut off, %d dropped", events.cut, events.drops())
		}
		close(hung.letGo)
		synctest.Wait()
		write(t, l, 10)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if n := len(hung.records(t)); n != 1+10 || events.cut != 1 {
			t.Errorf("%d records in the mirror, cut off %d times", n, events.cut)
		}
	})
}
