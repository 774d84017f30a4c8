package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/simulator"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/sqlite"
)

// A way is what a gateway is killed on.
type way int

const (
	mint way = iota
	deletion
	ways
	anyMoment = ways
)

// The points of a mint, in the order in which it passes them.
const (
	mintBegun    = iota // nothing is written
	mintIntended        // the intent is
	mintRecorded        // the audit record is
	mintAsked           // the request is at upstream
	mintMade            // upstream has made the token
	mintTold            // upstream has answered
	mintKnown           // the id is in the ledger
	mintReading         // the request for its proof is at upstream
	mintProved          // upstream has answered it
	mintLive            // the token is live
	mintAnswered        // the caller has it
)

// The points of a deletion.
const (
	deletionBegun = iota
	deletionRecorded
	deletionOwed    // it is in the ledger that the token is to go
	deletionAsked   // the request is at upstream
	deletionMade    // upstream has deleted the token
	deletionTold    // upstream has answered
	deletionReading // the request for its proof is at upstream
	deletionProved  // upstream has answered it
	deletionGone    // the token is gone in the ledger
	deletionAnswered
)

// points are the names of the points.
var points = [ways][]string{
	mint: {
		"before the intent", "after the intent", "after the record", "after the request left", "after upstream's create",
		"after upstream's answer", "after the id", "before the proof", "after the proof", "after live", "after the answer",
	},
	deletion: {
		"before the record", "after the record", "after revoking", "after the DELETE left", "after upstream's deletion",
		"after upstream's answer", "before the proof", "after the proof", "after gone", "after the answer",
	},
}

// awake are the points at which upstream is told of what happens, so that the
// gateway can be stopped there. All others lie between two of these.
var awake = [ways][]int{
	mint:     {mintBegun, mintAsked, mintMade, mintReading},
	deletion: {deletionBegun, deletionAsked, deletionMade, deletionReading},
}

type target struct {
	way   way
	point int
}

// from is the last point of which the harness is told before the target.
func (t target) from() (from int) {
	for _, p := range awake[t.way] {
		if p <= t.point {
			from = p
		}
	}
	return from
}

// aStep is for how long the process goes on at a time.
const aStep = 20 * time.Microsecond

// attempt is one mint or deletion during which the gateway is killed. Between
// the points of which upstream knows the process goes on by fractions of a
// millisecond, and whenever it stands still its store and its audit log are
// looked at. So the gateway needs nothing in it that knows of this.
type attempt struct {
	*minter
	target
	pid   int
	st    *sqlite.Store
	log   int64 // where the audit log ended
	name  string
	once  sync.Once
	steps sync.WaitGroup

	mu      sync.Mutex
	nonce   string // of the mint, once upstream was asked
	id      string // of the token, once it is known
	reached int    // the last point that upstream knows of
}

// attempt kills the gateway and returns at which point that really was.
func (m *minter) attempt(ctx context.Context, t target) (point int, err error) {
	a := &attempt{minter: m, target: t, pid: m.PID, name: fmt.Sprintf("aimed-%d", time.Now().UnixNano())}
	do := func() error { _, err := m.mint(ctx, a.name); return err }
	if t.way == deletion {
		if a.id, err = m.surely(ctx, a.name); err != nil {
			return 0, err
		}
		do = func() error { return m.revoke(ctx, a.id) }
	}
	if err := a.open(ctx); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, a.st.Close()) }()
	for _, operation := range []string{"createToken", "getToken", "revokeToken"} {
		defer m.world.API.Fail(simulator.Fault{Operation: operation, Effect: a.effect(ctx)})()
	}
	if a.from() == 0 {
		a.stop()
		a.steps.Go(func() { a.step(ctx) })
	}
	answered := do() == nil
	a.kill()
	a.steps.Wait()
	if answered {
		return len(points[t.way]) - 1, nil
	}
	return a.look(ctx)
}

// open looks at what there is before it begins. The store is closed again
// before the gateway is started: it has to recover its file by itself.
func (a *attempt) open(ctx context.Context) error {
	info, err := os.Stat(filepath.Join(a.Dir, "audit.jsonl"))
	if err != nil {
		return err
	}
	a.log = info.Size()
	a.st, err = sqlite.Open(ctx, a.file, "default")
	return err
}

// effect is what upstream does with requests of this attempt.
func (a *attempt) effect(ctx context.Context) simulator.Effect {
	return func(w http.ResponseWriter, r *http.Request, answer func() simulator.Answer) {
		before, after := a.passes(r)
		if after == 0 {
			answer().Send(w)
			return
		}
		if a.reach(before) {
			return
		}
		got := answer()
		a.learn(got)
		if before+1 < after && a.reach(before+1) { // it is done
			return
		}
		if a.from() == after-1 && a.point >= after {
			a.stop()
			defer a.steps.Go(func() { a.step(ctx) })
		}
		a.mu.Lock()
		a.reached = max(a.reached, after)
		a.mu.Unlock()
		got.Send(w)
	}
}

// passes tells which points a request passes: when it arrives, and when it is
// answered. 0 are those of others, which the ledger pays at the same time.
func (a *attempt) passes(r *http.Request) (before, after int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	its := a.id != "" && strings.HasSuffix(r.URL.Path, "/"+a.id)
	switch {
	case r.Method == http.MethodPost && a.way == mint:
		if a.nonce = a.nonceIn(r); a.nonce != "" {
			return mintAsked, mintTold
		}
	case r.Method == http.MethodGet && a.way == mint && its:
		return mintReading, mintProved
	case r.Method == http.MethodDelete && a.way == deletion && its:
		return deletionAsked, deletionTold
	case r.Method == http.MethodGet && a.way == deletion && its && a.reached >= deletionAsked:
		return deletionReading, deletionProved
	}
	return 0, 0
}

// nonceIn reads the nonce out of the name that upstream is sent.
func (a *attempt) nonceIn(r *http.Request) string {
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var ask struct {
		Name string `json:"name"`
	}
	if err != nil || json.Unmarshal(body, &ask) != nil || !strings.HasPrefix(ask.Name, a.name) {
		return ""
	}
	return nonceOf(ask.Name)
}

// learn reads the id of a new token.
func (a *attempt) learn(got simulator.Answer) {
	var made struct {
		ID string `json:"created_id"`
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if json.Unmarshal(got.Body, &made) == nil && made.ID != "" {
		a.id = strings.ToLower(made.ID)
	}
}

// reach kills the gateway where this is the point for it, and reports whether
// it was.
func (a *attempt) reach(point int) bool {
	a.mu.Lock()
	a.reached = max(a.reached, point)
	a.mu.Unlock()
	if point != a.point {
		return false
	}
	a.kill()
	return true
}

func (a *attempt) kill() { a.once.Do(a.Kill) }

// step lets the process go on little by little until it is where it is to be
// killed, or has got past it.
func (a *attempt) step(ctx context.Context) {
	defer a.kill()
	for ctx.Err() == nil {
		if !a.signal(syscall.SIGCONT) {
			return
		}
		for on := time.Now(); time.Since(on) < aStep; {
			continue // a sleep would be far longer
		}
		a.stop()
		// One that stands still in the middle of a write may keep others from
		// reading, and goes on.
		if point, err := a.look(ctx); err == nil && point >= a.point {
			return
		}
	}
}

// signal reports whether the process is still there.
func (a *attempt) signal(s syscall.Signal) bool { return syscall.Kill(a.pid, s) == nil }

// stop returns once the process stands still, or has ended.
func (a *attempt) stop() {
	if !a.signal(syscall.SIGSTOP) {
		return
	}
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.pid))
		if err != nil || !bytes.ContainsAny(stat[bytes.LastIndexByte(stat, ')')+1:][:3], "RSD") {
			return
		}
	}
}

// look tells at which point the process is, but for whether its caller has its
// answer.
func (a *attempt) look(ctx context.Context) (point int, err error) {
	a.mu.Lock()
	nonce, id, reached := a.nonce, a.id, a.reached
	a.mu.Unlock()
	if a.way == deletion {
		return a.lookAtDeletion(ctx, id, reached)
	}
	return a.lookAtMint(ctx, nonce, reached)
}

func (a *attempt) lookAtMint(ctx context.Context, nonce string, reached int) (point int, err error) {
	row, err := a.row(ctx, nonce)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return mintBegun, nil
	case err != nil:
		return 0, err
	case row.State == ledger.Live:
		return mintLive, nil
	case row.State != ledger.Intent:
		return mintAnswered, nil // otherwise than with a token
	case row.ID != "":
		return max(reached, mintKnown), nil
	case reached > 0:
		return reached, nil
	}
	recorded, err := a.recorded("createToken")
	if recorded {
		return mintRecorded, err
	}
	return mintIntended, err
}

// row finds the mint's row: by its nonce, or before upstream has that by its
// name.
func (a *attempt) row(ctx context.Context, nonce string) (store.Token, error) {
	if nonce != "" {
		return a.st.TokenByNonce(ctx, nonce)
	}
	page, _, err := a.st.Tokens(ctx, store.TokenFilter{States: []string{ledger.Intent}, Limit: 1000})
	for _, t := range page {
		if t.Name == a.name {
			return t, nil
		}
	}
	if err == nil {
		err = store.ErrNotFound
	}
	return store.Token{}, err
}

func (a *attempt) lookAtDeletion(ctx context.Context, id string, reached int) (point int, err error) {
	row, err := a.st.Token(ctx, id)
	switch {
	case err != nil:
		return 0, err
	case row.State == ledger.Gone:
		return deletionGone, nil
	case row.State == ledger.Revoking:
		return max(reached, deletionOwed), nil
	case row.State != ledger.Live:
		return 0, fmt.Errorf("the token is %s: %s", row.State, row.Cause)
	}
	recorded, err := a.recorded("revokeToken")
	if recorded {
		return deletionRecorded, err
	}
	return deletionBegun, err
}

// recorded reports whether the audit log has a decision of this attempt.
func (a *attempt) recorded(operation string) (bool, error) {
	log, err := os.Open(filepath.Join(a.Dir, "audit.jsonl"))
	if err != nil {
		return false, err
	}
	defer log.Close()
	text, err := io.ReadAll(io.NewSectionReader(log, a.log, 1<<20))
	if err != nil {
		return false, err
	}
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte(`"phase":"decided"`)) && bytes.Contains(line, []byte(`"operation":"`+operation+`"`)) {
			return true, nil
		}
	}
	return false, nil
}
