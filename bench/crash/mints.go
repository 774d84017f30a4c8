package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/store/sqlite"
)

// mostLost is how many tokens may be lost before the ledger has to find them: a
// reconciliation that would delete more than 20 stops to ask.
const mostLost = 10

// minter is a gateway that makes and deletes tokens, and what its callers were
// told of them.
type minter struct {
	*rig.Gateway
	world *rig.World
	key   string
	file  string // its store

	mu      sync.Mutex
	given   map[string]bool // ids that a caller was given
	asked   map[string]bool // of them, those whose deletion was asked for
	deleted map[string]bool // of them, those that a caller was told are deleted
	planted map[string]bool // ids that the gateway has nothing to do with
}

type mintResult struct {
	killed int
	at     [ways][]int // kills by point, of each way
	random int
	balance
}

// mints kills a gateway on its way through mints and deletions, at each point
// in turn and at random moments, lets it find what was lost, and looks whether
// the ledger is right. In a hurry the time that the gateway has to let pass
// before it takes a mint for lost is made to pass in its store.
func mints(ctx context.Context, kills int, hurry bool) (r mintResult, err error) {
	w, err := rig.NewWorld(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	red, blue := credential.Generate(), credential.Generate()
	g, err := w.Minting(ctx, "gateway", "store sqlite {$DIR}/store.db", red, blue)
	if err != nil {
		return r, err
	}
	defer func() { g.Stop() }()
	m := &minter{
		Gateway: g, world: w, key: red.Reveal(), file: filepath.Join(g.Dir, "store.db"),
		given: map[string]bool{}, asked: map[string]bool{}, deleted: map[string]bool{}, planted: map[string]bool{},
	}
	if err := m.plant(ctx); err != nil {
		return r, err
	}
	for w := range r.at {
		r.at[w] = make([]int, len(points[w]))
	}
	for targets := round(); r.killed < kills; r.killed++ {
		if err := m.killAt(ctx, targets[r.killed%len(targets)], &r); err != nil {
			return r, fmt.Errorf("kill %d: %w", r.killed+1, err)
		}
		if err := m.Restart(ctx); err != nil {
			return r, fmt.Errorf("starting again after kill %d: %w", r.killed+1, err)
		}
		fmt.Fprintf(os.Stderr, "\rkilled %d of %d, %d tokens given, %d deleted ", r.killed+1, kills, len(m.given), len(m.deleted))
		if err := m.settleMany(ctx); err != nil {
			return r, err
		}
	}
	fmt.Fprintln(os.Stderr)
	r.balance, err = m.settle(ctx, hurry)
	return r, err
}

// plant makes tokens that are not the gateway's: one of the console, and one
// with the name of a token that is.
func (m *minter) plant(ctx context.Context) error {
	id, err := m.surely(ctx, "copied")
	if err != nil {
		return err
	}
	api := m.world.API
	for _, t := range api.Tokens() {
		if strings.EqualFold(t.ID, id) {
			m.planted[api.Plant(t.Name)] = true
		}
	}
	m.planted[api.Plant("made in the console")] = true
	m.planted[api.MasterID()] = true
	return nil
}

// round is what a round of kills aims at: every point of both ways, and now and
// then any moment.
func round() (list []target) {
	for w := range points {
		for p := 1; p < len(points[w])-1; p++ {
			list = append(list, target{way(w), p})
			if p%3 == 0 {
				list = append(list, target{anyMoment, 0})
			}
		}
	}
	return list
}

func (m *minter) killAt(ctx context.Context, t target, r *mintResult) error {
	if t.way == anyMoment {
		m.workUntilKilled(ctx)
		r.random++
		return nil
	}
	p, err := m.attempt(ctx, t)
	if err == nil {
		r.at[t.way][p]++
	}
	return err
}

// settleMany lets the ledger find what is lost once that is much.
func (m *minter) settleMany(ctx context.Context) error {
	st, err := sqlite.Open(ctx, m.file, "default")
	if err != nil {
		return err
	}
	rows, err := rowsOf(ctx, st)
	if err = errors.Join(err, st.Close()); err != nil || len(m.homeless(rows)) < mostLost {
		return err
	}
	l, err := m.settle(ctx, true)
	if err == nil && l.wrong() > 0 {
		err = errors.New("the ledger is wrong")
	}
	return err
}

// workUntilKilled makes and deletes tokens on several connections, and kills
// the gateway at a random moment of that.
func (m *minter) workUntilKilled(ctx context.Context) {
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for {
				id, err := m.mint(ctx, "any")
				if err == nil && rand.IntN(2) == 0 { //nolint:gosec // any of them will do
					err = m.revoke(ctx, id)
				}
				if err != nil {
					return // killed
				}
			}
		})
	}
	select {
	case <-time.After(time.Duration(20+rand.IntN(400)) * time.Millisecond): //nolint:gosec // any moment will do
	case <-ctx.Done():
	}
	m.Kill()
	callers.Wait()
}

// mint makes a token and keeps in mind that a caller was given it.
func (m *minter) mint(ctx context.Context, name string) (id string, err error) {
	a, err := m.Ask(ctx, m.key, http.MethodPost, "/api/v1/token", rig.Token(name))
	if err != nil {
		return "", err
	}
	var made struct {
		ID    string `json:"created_id"`
		Token string `json:"token"`
	}
	if err := json.Unmarshal(a.Body, &made); err != nil || a.Status != http.StatusOK || made.Token == "" {
		return "", fmt.Errorf("a mint was answered %d: %s", a.Status, a.Body)
	}
	id = strings.ToLower(made.ID)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.given[id] = true
	return id, nil
}

// surely makes a token that is needed for what comes. On a machine that is busy
// a gateway may be late and refuse.
func (m *minter) surely(ctx context.Context, name string) (id string, err error) {
	for range 10 {
		if id, err = m.mint(ctx, name); err == nil {
			return id, nil
		}
	}
	return "", err
}

// revoke deletes a token, and keeps in mind what its caller was told.
func (m *minter) revoke(ctx context.Context, id string) error {
	m.note(m.asked, id)
	a, err := m.Ask(ctx, m.key, http.MethodDelete, "/api/v1/token/"+id, "")
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return fmt.Errorf("a deletion was answered %d: %s", a.Status, a.Body)
	}
	m.note(m.deleted, id)
	return nil
}

func (m *minter) note(in map[string]bool, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	in[id] = true
}

func (r *mintResult) print() {
	for w, name := range []string{mint: "mint", deletion: "deletion"} {
		for p, n := range r.at[w] {
			fmt.Printf("crash: killed %3d times in a %s %s\n", n, name, points[w][p])
		}
	}
	fmt.Printf("crash: killed %3d times at random moments\n", r.random)
	fmt.Printf("crash: killed=%d live=%d gone=%d recovered=%d unknown=%d tokens_upstream=%d orphans=%d lies=%d broken=%d\n",
		r.killed, r.live, r.gone, r.recovered, r.unknown, r.tokens, r.orphans, r.lies, r.broken)
}
