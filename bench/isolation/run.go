package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/scopegate/scopegate/bench/rig"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/simulator"
	"github.com/scopegate/scopegate/store/storetest/pgtest"
)

const clients = 8

// isolation is one run, and what came of it.
type isolation struct {
	replicas [2]*rig.Gateway
	teams    [2]*team

	done                                                    atomic.Int64 // operations
	minted, listed, read, deleted, foreign, random, pastIDs atomic.Int64 // answered as they should
	failed, hungUp                                          atomic.Int64 // of all
	resets, errors                                          atomic.Int64 // of upstream

	mu      sync.Mutex
	nowhere map[string]string // the answer for an id that nothing has, by team and method
	wrong   int
}

func run(ctx context.Context, operations int) (r *isolation, err error) {
	w, err := rig.NewWorld(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	cluster, err := pgtest.Start()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	red, blue := credential.Generate(), credential.Generate()
	r = &isolation{nowhere: map[string]string{}, teams: [2]*team{newTeam("red", red.Reveal()), newTeam("blue", blue.Reveal())}}
	for i, name := range []string{"one", "two"} {
		g, err := w.Minting(ctx, name, "store postgres {env.DATABASE_URL}", red, blue, "DATABASE_URL="+cluster.DSN("postgres"))
		if err != nil {
			return nil, err
		}
		defer g.Stop()
		r.replicas[i] = g
	}
	w.API.Plant("made in the console")
	if err := r.learnNowhere(ctx); err != nil {
		return nil, err
	}
	heal := w.API.Fail(simulator.Fault{Effect: r.fails})
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			for ctx.Err() == nil && r.done.Add(1) <= int64(operations) {
				r.operate(ctx, r.teams[i%2], r.teams[1-i%2])
			}
		})
	}
	running.Wait()
	heal()
	return r, errors.Join(ctx.Err(), r.last(ctx))
}

// fails is how upstream fails.
func (r *isolation) fails(w http.ResponseWriter, req *http.Request, answer func() simulator.Answer) {
	select {
	case <-time.After(rand.N(20 * time.Millisecond)): //nolint:gosec // any delay will do
	case <-req.Context().Done():
	}
	switch n := rand.IntN(100); { //nolint:gosec // it has not to be guessed
	case n < 5:
		r.errors.Add(1)
		simulator.Status(http.StatusInternalServerError, nil)(w, req, answer)
	case n < 15 && req.Method != http.MethodGet:
		r.resets.Add(1)
		simulator.Lose()(w, req, answer)
	default:
		answer().Send(w)
	}
}

// operate does one thing through one of the replicas.
func (r *isolation) operate(ctx context.Context, t, other *team) {
	if rand.IntN(12) == 0 { //nolint:gosec // likewise
		hasty, cancel := context.WithTimeout(ctx, rand.N(30*time.Millisecond)) //nolint:gosec // likewise
		defer cancel()
		ctx = hasty
		r.hungUp.Add(1)
	}
	switch n := rand.IntN(100); { //nolint:gosec // likewise
	case n < 30:
		r.mint(ctx, t)
	case n < 50:
		r.list(ctx, t, other)
	case n < 65:
		r.readOwn(ctx, t)
	case n < 80:
		r.deleteOwn(ctx, t)
	case n < 90:
		if id, ok := other.own(); ok {
			r.expectNowhere(ctx, t, id, &r.foreign)
		}
	case n < 95:
		if id, ok := t.past(); ok {
			r.expectNowhere(ctx, t, id, &r.pastIDs)
		}
	default:
		r.expectNowhere(ctx, t, uuid.NewString(), &r.random)
	}
}

// ask makes a request through one of the replicas; without an answer it counts
// as failed.
func (r *isolation) ask(ctx context.Context, t *team, method, path, body string) (rig.Answer, bool) {
	a, err := r.replicas[rand.IntN(2)].Ask(ctx, t.key, method, path, body) //nolint:gosec // likewise
	if err != nil || a.Status >= http.StatusInternalServerError {
		r.failed.Add(1)
		return a, false
	}
	return a, true
}

func (r *isolation) complain(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong++
	if r.wrong <= 20 {
		fmt.Printf("wrong: "+format+"\n", args...)
	}
}

func (r *isolation) mint(ctx context.Context, t *team) {
	a, ok := r.ask(ctx, t, http.MethodPost, "/api/v1/token", rig.Token(fmt.Sprintf("%s-%d", t.name, rand.IntN(1000)))) //nolint:gosec // likewise
	if !ok {
		return
	}
	var made struct {
		ID string `json:"created_id"`
	}
	if a.Status != http.StatusOK || json.Unmarshal(a.Body, &made) != nil || made.ID == "" {
		r.complain("a mint of %s is answered %d %s", t.name, a.Status, a.Body)
		return
	}
	t.give(made.ID)
	r.minted.Add(1)
}

func (r *isolation) list(ctx context.Context, t, other *team) {
	v := t.view()
	a, ok := r.ask(ctx, t, http.MethodGet, "/api/v1/tokens", "")
	if !ok {
		return
	}
	names, err := namesIn(a)
	if err != nil {
		r.complain("the list of %s: %v", t.name, err)
		return
	}
	for _, text := range t.check(v, names, other) {
		r.complain("%s", text)
	}
	r.listed.Add(1)
}

func namesIn(a rig.Answer) (map[string]string, error) {
	var list []struct{ ID, Name string }
	if err := json.Unmarshal(a.Body, &list); err != nil || a.Status != http.StatusOK {
		return nil, fmt.Errorf("answered %d %s", a.Status, a.Body)
	}
	names := map[string]string{}
	for _, one := range list {
		names[one.ID] = one.Name
	}
	return names, nil
}

func (r *isolation) readOwn(ctx context.Context, t *team) {
	id, ok := t.own()
	if !ok {
		return
	}
	a, ok := r.ask(ctx, t, http.MethodGet, "/api/v1/token/"+spelt(id), "")
	if !ok {
		return
	}
	var seen struct{ ID, Name string }
	switch {
	case a.Status == http.StatusNotFound && t.askers(id) > 0:
	case a.Status != http.StatusOK, json.Unmarshal(a.Body, &seen) != nil, seen.ID != id, !t.named(seen.Name):
		r.complain("%s reads its own %s: %d %s", t.name, id, a.Status, a.Body)
	default:
		r.read.Add(1)
	}
}

func (r *isolation) deleteOwn(ctx context.Context, t *team) {
	id, ok := t.own()
	if !ok {
		return
	}
	t.ask(id)
	a, ok := r.ask(ctx, t, http.MethodDelete, "/api/v1/token/"+spelt(id), "")
	switch {
	case !ok:
	case a.Status == http.StatusOK, a.Status == http.StatusNotFound && t.askers(id) > 1:
		t.gone(id)
		r.deleted.Add(1)
	default:
		r.complain("%s deletes its own %s: %d %s", t.name, id, a.Status, a.Body)
	}
}

// spelt is an id in one of the ways in which it can be spelt.
func spelt(id string) string {
	if rand.IntN(4) == 0 { //nolint:gosec // likewise
		return strings.ToUpper(id)
	}
	return id
}

// expectNowhere asks for an id that is not the team's, or no longer.
func (r *isolation) expectNowhere(ctx context.Context, t *team, id string, count *atomic.Int64) {
	method := []string{http.MethodGet, http.MethodDelete}[rand.IntN(2)] //nolint:gosec // likewise
	a, ok := r.ask(ctx, t, method, "/api/v1/token/"+spelt(id), "")
	if !ok {
		return
	}
	got := without(a)
	r.mu.Lock()
	want := r.nowhere[t.name+method]
	r.mu.Unlock()
	if got != want {
		r.complain("%s %s of %s is answered\n%s\nand a random id\n%s", t.name, method, id, got, want)
		return
	}
	count.Add(1)
}

// learnNowhere asks for ids that nothing has, while nothing fails.
func (r *isolation) learnNowhere(ctx context.Context) error {
	for _, t := range r.teams {
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			a, err := r.replicas[0].Ask(ctx, t.key, method, "/api/v1/token/"+uuid.NewString(), "")
			if err != nil {
				return err
			}
			if a.Status != http.StatusNotFound {
				return fmt.Errorf("%s of a random id is answered %d %s", method, a.Status, a.Body)
			}
			r.nowhere[t.name+method] = without(a)
		}
	}
	return nil
}

// without is an answer less the id of its decision and its date.
func without(a rig.Answer) string {
	head := a.Header.Clone()
	id := head.Get("Scopegate-Decision-Id")
	head.Del("Scopegate-Decision-Id")
	head.Del("Date")
	var text bytes.Buffer
	fmt.Fprintln(&text, a.Status)
	_ = head.Write(&text) // a buffer takes all
	text.WriteString(strings.ReplaceAll(string(a.Body), id, "-"))
	return text.String()
}

// last looks once more at the lists of both teams, through both replicas, now
// that nothing fails any more.
func (r *isolation) last(ctx context.Context) error {
	for i, t := range r.teams {
		for _, g := range r.replicas {
			v := t.view()
			a, err := g.Ask(ctx, t.key, http.MethodGet, "/api/v1/tokens", "")
			if err != nil {
				return err
			}
			names, err := namesIn(a)
			if err != nil {
				return fmt.Errorf("the last list of %s: %w", t.name, err)
			}
			for _, text := range t.check(v, names, r.teams[1-i]) {
				r.complain("in the end %s", text)
			}
		}
	}
	return nil
}

// good reports whether nothing was wrong, and whether all that was to be seen
// was looked at.
func (r *isolation) good() bool {
	return r.wrong == 0 && min(r.minted.Load(), r.listed.Load(), r.read.Load(), r.deleted.Load(), r.foreign.Load(),
		r.random.Load(), r.resets.Load(), r.errors.Load()) > 0
}

func (r *isolation) print() {
	fmt.Printf("isolation: answered: minted=%d listed=%d read=%d deleted=%d\n", r.minted.Load(), r.listed.Load(), r.read.Load(), r.deleted.Load())
	fmt.Printf("isolation: answered as a random id, byte by byte: another_team's=%d deleted=%d random=%d\n", r.foreign.Load(), r.pastIDs.Load(), r.random.Load())
	fmt.Printf("isolation: upstream reset %d connections after the change and answered %d requests with 500; %d callers were hasty; %d operations failed\n",
		r.resets.Load(), r.errors.Load(), r.hungUp.Load(), r.failed.Load())
	fmt.Printf("isolation: wrong=%d\n", r.wrong)
}
