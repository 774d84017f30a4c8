package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
)

// maxKeys is how many different keys ask in the rounds, at most, and own how
// many tokens the lister has.
const (
	maxKeys = 10_000
	own     = 10
)

// contender is a gateway on a store of one size.
type contender struct {
	size, teams int
	keys        []string // key i is of team i % teams
	tokens      []string // the lister's
	gateway     *rig.Gateway

	start      time.Duration
	idle, used int64         // memory after the start, and once each key was used
	peak       int64         // memory at its most, reloads left out
	first      time.Duration // processor time of the first request with a key
	costs      [][]time.Duration
}

// work is one kind of request, by its place in works.
type work struct {
	name  string
	count func(s settings) int
	ask   func(ctx context.Context, c *contender, made *made, i int) error
}

// made are the tokens of one round, which it deletes again.
type made struct {
	mu  sync.Mutex
	ids []string
}

var works = []work{
	{"read", func(s settings) int { return s.requests }, func(ctx context.Context, c *contender, _ *made, i int) error {
		// Each key is asked with in turn, and far from the one before.
		return c.get(ctx, c.keys[i%maxKeys*max(1, len(c.keys)/maxKeys)%len(c.keys)], rig.Path)
	}},
	{"mint", func(s settings) int { return s.mints }, func(ctx context.Context, c *contender, made *made, i int) error {
		id, err := c.gateway.Mint(ctx, c.keys[minter], fmt.Sprintf("export %d", i))
		made.mu.Lock()
		defer made.mu.Unlock()
		made.ids = append(made.ids, id)
		return err
	}},
	{"own token", func(s settings) int { return s.requests / 2 }, func(ctx context.Context, c *contender, _ *made, i int) error {
		return c.get(ctx, c.keys[lister], "/api/v1/token/"+c.tokens[i%len(c.tokens)])
	}},
	{"list", func(s settings) int { return s.requests / 4 }, func(ctx context.Context, c *contender, _ *made, _ int) error {
		return c.get(ctx, c.keys[lister], "/api/v1/tokens")
	}},
	{"deletion", func(s settings) int { return s.mints }, func(ctx context.Context, c *contender, made *made, i int) error {
		status, err := c.gateway.Delete(ctx, c.keys[minter], made.ids[i])
		return expect(status, err)
	}},
}

func (c *contender) get(ctx context.Context, key, path string) error {
	return expect(c.gateway.Get(ctx, key, path))
}

func expect(status int, err error) error {
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("answered %d", status)
	}
	return err
}

func run(ctx context.Context, s settings) (ok bool, err error) {
	progress("building the gateway")
	w, err := rig.NewWorld(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()

	var list []*contender
	for _, size := range s.sizes {
		c, err := prepare(ctx, w, size, min(size, s.teams))
		if err != nil {
			return false, err
		}
		defer c.gateway.Stop()
		list = append(list, c)
	}
	for i := range s.rounds {
		progress("round %d of %d", i+1, s.rounds)
		for _, c := range list {
			if err := c.round(ctx, s); err != nil {
				return false, err
			}
		}
	}
	last := list[len(list)-1]
	for _, c := range list {
		if c.peak, err = c.gateway.PeakMemory(); err != nil {
			return false, err
		}
	}
	progress("reloading %d teams", last.teams)
	r, err := last.reload(ctx, s)
	if err != nil {
		return false, err
	}
	table(os.Stdout, list, r)
	return verdict(os.Stdout, goals(list, r)), nil
}

// prepare starts a gateway on a new store, uses each of its keys once, and
// makes the lister's tokens.
func prepare(ctx context.Context, w *rig.World, size, teams int) (c *contender, err error) {
	progress("making %d credentials of %d teams, and %[1]d tokens", size, teams)
	c = &contender{size: size, teams: teams, costs: make([][]time.Duration, len(works))}
	home := filepath.Join(w.Dir, strconv.Itoa(size))
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	if c.keys, err = fill(ctx, filepath.Join(home, "store.db"), size, teams); err != nil {
		return nil, err
	}
	started := time.Now()
	if c.gateway, err = w.Gateway(ctx, strconv.Itoa(size), configured(teams)); err != nil {
		return nil, err
	}
	c.start = time.Since(started)
	if err := c.warm(ctx); err != nil {
		c.gateway.Stop()
		return nil, err
	}
	return c, nil
}

func (c *contender) warm(ctx context.Context) (err error) {
	if c.idle, err = c.gateway.Memory(); err != nil {
		return err
	}
	progress("asking with each of %d keys", len(c.keys))
	if c.first, err = c.cost(len(c.keys), func() error { return once(ctx, c.gateway.Address, c.keys) }); err != nil {
		return err
	}
	if c.used, err = c.gateway.Memory(); err != nil {
		return err
	}
	for i := range own {
		id, err := c.gateway.Mint(ctx, c.keys[lister], fmt.Sprintf("own %d", i))
		if err != nil {
			return err
		}
		c.tokens = append(c.tokens, id)
	}
	return nil
}

// round measures each kind of request.
func (c *contender) round(ctx context.Context, s settings) error {
	var made made
	for i, work := range works {
		n := work.count(s)
		took, err := c.cost(n, func() error {
			return share(n, func(i int) error { return work.ask(ctx, c, &made, i) })
		})
		if err != nil {
			return fmt.Errorf("%s: %w", work.name, err)
		}
		c.costs[i] = append(c.costs[i], took)
	}
	return nil
}

// cost is the processor time that the gateway takes for each of n requests.
func (c *contender) cost(n int, do func() error) (time.Duration, error) {
	before, err := rig.CPUTime(c.gateway.PID)
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	after, err := rig.CPUTime(c.gateway.PID)
	return (after - before) / time.Duration(max(n, 1)), err
}

// share has several callers make n requests.
func share(n int, ask func(i int) error) error {
	errs := make([]error, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for k := i; k < n && errs[i] == nil; k += callers {
				errs[i] = ask(k)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
