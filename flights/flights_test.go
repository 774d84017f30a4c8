package flights_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/scopegate/scopegate/flights"
)

// tower lets a test say when work ends, and how.
type tower struct {
	changes flights.Changes
	board   *flights.Board[string]
	calls   []*work
	mu      sync.Mutex
}

// work is one that was begun.
type work struct {
	ctx  context.Context
	land chan landing
}

type landing struct {
	answer string
	err    error
}

func newTower() *tower {
	w := new(tower)
	w.board = flights.NewBoard[string](&w.changes)
	return w
}

// begun are the works that were begun so far.
func (w *tower) begun() []*work {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls
}

// passenger is a caller on its way.
type passenger struct {
	leave context.CancelFunc
	back  chan string // what it was told
}

// told waits for what the passenger was told.
func (p *passenger) told() string { return <-p.back }

// waits reports whether the passenger was told nothing yet.
func (p *passenger) waits() bool {
	synctest.Wait()
	return len(p.back) == 0
}

var theKey = flights.Key{Team: "red", Method: "GET", Path: "/a", Body: "{}"}

// fly sends a caller off and waits until it is in the air.
func (w *tower) fly(t *testing.T, name string, key flights.Key) *passenger {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &passenger{leave: cancel, back: make(chan string, 1)}
	go func() {
		defer func() {
			if v := recover(); v != nil {
				p.back <- fmt.Sprint("panic: ", v)
			}
		}()
		answer, whose, err := w.board.Fly(ctx, key, name, w.work)
		p.back <- fmt.Sprintf("%s of %q: %v", answer, whose, err)
	}()
	synctest.Wait()
	return p
}

func (w *tower) work(ctx context.Context) (string, error) {
	one := &work{ctx, make(chan landing)}
	w.mu.Lock()
	w.calls = append(w.calls, one)
	w.mu.Unlock()
	select {
	case l := <-one.land:
		if errors.Is(l.err, errBang) {
			panic("bang")
		}
		return l.answer, l.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

var errBang = errors.New("bang")

// inTheAir runs a test on a clock and goroutines of its own.
func inTheAir(t *testing.T, what string, run func(*testing.T, *tower)) {
	t.Helper()
	t.Run(what, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { run(t, newTower()) })
	})
}

func expect(t *testing.T, p *passenger, want string) {
	t.Helper()
	if got := p.told(); got != want {
		t.Errorf("told %s, want %s", got, want)
	}
}

func TestTheSameIsSharedAndNothingElse(t *testing.T) {
	inTheAir(t, "one key", func(t *testing.T, w *tower) {
		one, two, three := w.fly(t, "one", theKey), w.fly(t, "two", theKey), w.fly(t, "three", theKey)
		if n := len(w.begun()); n != 1 {
			t.Fatalf("%d works", n)
		}
		w.calls[0].land <- landing{answer: "x"}
		expect(t, one, `x of "": <nil>`)
		expect(t, two, `x of "one": <nil>`)
		expect(t, three, `x of "one": <nil>`)
		if w.calls[0].ctx.Err() == nil {
			t.Error("the context of work that is done was left open")
		}

		four := w.fly(t, "four", theKey)
		if n := len(w.begun()); n != 2 {
			t.Fatalf("%d works: an answer was kept", n)
		}
		w.calls[1].land <- landing{answer: "y"}
		expect(t, four, `y of "": <nil>`)
	})
	for _, other := range []flights.Key{
		{Team: "blue", Method: "GET", Path: "/a", Body: "{}"},
		{Team: "red", Method: "HEAD", Path: "/a", Body: "{}"},
		{Team: "red", Method: "GET", Path: "/b", Body: "{}"},
		{Team: "red", Method: "GET", Path: "/a"},
	} {
		inTheAir(t, fmt.Sprint(other), func(t *testing.T, w *tower) {
			one, two := w.fly(t, "one", theKey), w.fly(t, "two", other)
			if n := len(w.begun()); n != 2 {
				t.Fatalf("%d works", n)
			}
			w.calls[0].land <- landing{answer: "x"}
			w.calls[1].land <- landing{answer: "y"}
			expect(t, one, `x of "": <nil>`)
			expect(t, two, `y of "": <nil>`)
		})
	}
}

func TestAnErrorIsShared(t *testing.T) {
	inTheAir(t, "error", func(t *testing.T, w *tower) {
		one, two := w.fly(t, "one", theKey), w.fly(t, "two", theKey)
		w.begun()[0].land <- landing{err: errors.New("no answer")}
		expect(t, one, ` of "": no answer`)
		expect(t, two, ` of "one": no answer`)
	})
	// The others must not wait for ever, and the panic is the leader's.
	inTheAir(t, "panic", func(t *testing.T, w *tower) {
		one, two := w.fly(t, "one", theKey), w.fly(t, "two", theKey)
		w.begun()[0].land <- landing{err: errBang}
		expect(t, one, "panic: bang")
		expect(t, two, ` of "one": the work of another broke off`)
		three := w.fly(t, "three", theKey)
		w.begun()[1].land <- landing{answer: "x"}
		expect(t, three, `x of "": <nil>`)
	})
}

// A change takes joiners from every flight that left before it, whoever's it
// is, and from those that left while it was under way.
func TestNobodyIsGivenWhatWasReadBeforeAChange(t *testing.T) {
	inTheAir(t, "change", func(t *testing.T, w *tower) {
		before := w.fly(t, "before", theKey)
		w.changes.Mark() // it leaves
		during := w.fly(t, "during", theKey)
		too := w.fly(t, "too", theKey)
		w.changes.Mark() // it is back
		after := w.fly(t, "after", theKey)
		last := w.fly(t, "last", theKey)
		if n := len(w.begun()); n != 3 {
			t.Fatalf("%d works, want 3", n)
		}
		// What was closed takes nothing off the board that is not its own.
		w.calls[0].land <- landing{answer: "old"}
		w.calls[1].land <- landing{answer: "unclear"}
		expect(t, before, `old of "": <nil>`)
		expect(t, during, `unclear of "": <nil>`)
		expect(t, too, `unclear of "during": <nil>`)
		joins := w.fly(t, "joins", theKey)
		if n := len(w.begun()); n != 3 {
			t.Fatalf("%d works, want 3", n)
		}
		w.calls[2].land <- landing{answer: "new"}
		expect(t, after, `new of "": <nil>`)
		expect(t, last, `new of "after": <nil>`)
		expect(t, joins, `new of "after": <nil>`)
	})
}

func TestWorkEndsWithItsLastCaller(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}} {
		inTheAir(t, fmt.Sprint(order), func(t *testing.T, w *tower) {
			all := []*passenger{w.fly(t, "0", theKey), w.fly(t, "1", theKey), w.fly(t, "2", theKey)}
			ctx := w.begun()[0].ctx
			for _, i := range order[:2] {
				all[i].leave()
				synctest.Wait()
				if ctx.Err() != nil {
					t.Fatalf("the work ended when %d left", i)
				}
			}
			all[order[2]].leave()
			synctest.Wait()
			if ctx.Err() == nil {
				t.Fatal("the work went on for nobody")
			}
			expect(t, all[0], ` of "": context canceled`)
			expect(t, all[1], ` of "0": context canceled`)
			expect(t, all[2], ` of "0": context canceled`)
			// Nobody joins what was broken off.
			next := w.fly(t, "next", theKey)
			w.begun()[1].land <- landing{answer: "x"}
			expect(t, next, `x of "": <nil>`)
		})
	}
}

// A leader who has left is told when the work is done, which others wait for.
func TestTheLeaderMayLeave(t *testing.T) {
	inTheAir(t, "leader", func(t *testing.T, w *tower) {
		one, two := w.fly(t, "one", theKey), w.fly(t, "two", theKey)
		one.leave()
		three := w.fly(t, "three", theKey)
		if !one.waits() || len(w.begun()) != 1 {
			t.Fatal("the work did not go on")
		}
		w.calls[0].land <- landing{answer: "x"}
		expect(t, one, ` of "": context canceled`)
		expect(t, two, `x of "one": <nil>`)
		expect(t, three, `x of "one": <nil>`)
	})
}

// Work that is not for sharing goes on after its flight: for the leader, and as
// long as the leader stays.
func TestWhatIsNotForSharing(t *testing.T) {
	inTheAir(t, "alone", func(t *testing.T, w *tower) {
		one, two := w.fly(t, "one", theKey), w.fly(t, "two", theKey)
		ctx := w.begun()[0].ctx
		w.calls[0].land <- landing{err: flights.ErrAlone}
		expect(t, one, ` of "": the answer is not for sharing`)
		expect(t, two, ` of "one": the answer is not for sharing`)
		two.leave()
		synctest.Wait()
		if ctx.Err() != nil {
			t.Error("the leader's work ended with another caller")
		}
		one.leave()
		synctest.Wait()
		if ctx.Err() == nil {
			t.Error("the work outlived the leader")
		}
	})
	inTheAir(t, "the leader left before", func(t *testing.T, w *tower) {
		one, two := w.fly(t, "one", theKey), w.fly(t, "two", theKey)
		one.leave()
		ctx := w.begun()[0].ctx
		w.calls[0].land <- landing{err: flights.ErrAlone}
		expect(t, one, ` of "": context canceled`)
		expect(t, two, ` of "one": the answer is not for sharing`)
		synctest.Wait()
		if ctx.Err() == nil {
			t.Error("the work goes on for nobody")
		}
	})
}

// TestManyAtOnce is for the race detector: callers of few keys come, go and
// leave while changes are made, and nobody is given what was begun before a
// change that was made before it came.
func TestManyAtOnce(t *testing.T) {
	var changes flights.Changes
	var mu sync.Mutex
	made := 0
	seen := func() int {
		mu.Lock()
		defer mu.Unlock()
		return made
	}
	board := flights.NewBoard[int](&changes)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 500 {
				if i == 0 {
					changes.Mark()
					mu.Lock()
					made++
					mu.Unlock()
					changes.Mark()
					continue
				}
				ctx, cancel := context.WithCancel(t.Context())
				if j%7 == i%7 {
					go cancel()
				}
				before := seen()
				key := flights.Key{Path: fmt.Sprint(j % 2)}
				got, _, err := board.Fly(ctx, key, fmt.Sprint(i, j), func(context.Context) (int, error) { return seen(), nil })
				if err == nil && got < before {
					t.Errorf("was given %d after it had seen %d", got, before)
				}
				cancel()
			}
		})
	}
	wg.Wait()
}
