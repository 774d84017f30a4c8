package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/simulator"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/sqlite"
)

// settled is how long the ledger may take: a mint is given up after half a
// minute, the turn of a process that died at work lasts two, and a reconciliation
// is due each minute.
const settled = 8 * time.Minute

// balance is what the ledger says in the end, and what of that is wrong.
type balance struct {
	tokens    int // at upstream, but for those that are not the gateway's
	live      int // rows
	gone      int
	unknown   int
	recovered int // of those that are gone: their replies were lost

	orphans int // tokens that no live row is about
	lies    int // rows that say what is not so
	broken  int // tokens that callers were promised, and not kept
}

func (l balance) wrong() int { return l.orphans + l.lies + l.broken }

// settle waits until nothing is left to be done, and looks at what there is.
func (m *minter) settle(ctx context.Context, hurry bool) (l balance, err error) {
	if hurry {
		m.Kill()
		if err := m.age(ctx); err != nil {
			return l, fmt.Errorf("letting time pass: %w", err)
		}
		if err := m.Restart(ctx); err != nil {
			return l, err
		}
	}
	st, err := sqlite.Open(ctx, m.file, "default")
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	late := time.After(settled)
	again := time.NewTicker(250 * time.Millisecond)
	defer again.Stop()
	for {
		rows, err := rowsOf(ctx, st)
		if err != nil {
			return l, err
		}
		if m.quiet(rows) {
			return m.inspect(rows), nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return l, ctx.Err()
		case <-late:
			return m.inspect(rows), nil
		}
	}
}

// underWay reports whether the ledger has something to do about a row soon.
func underWay(t store.Token) bool {
	return t.State == ledger.Intent || t.State == ledger.Revoking || t.State == ledger.Unknown && t.ID != ""
}

// age makes time pass in the store of a gateway that does not run: what a mint
// may take is over, and the turns of dead processes are.
func (m *minter) age(ctx context.Context) (err error) {
	st, err := sqlite.Open(ctx, m.file, "default")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	rows, err := rowsOf(ctx, st)
	if err != nil {
		return err
	}
	for _, t := range rows {
		if !underWay(t) {
			continue
		}
		t.Due = time.Now()
		if _, err := st.UpdateToken(ctx, t, nil); err != nil {
			return err
		}
	}
	dead, _, err := st.Replicas(ctx)
	for _, r := range dead {
		for _, turn := range []string{"tokens", "reconcile"} {
			err = errors.Join(err, st.Release(ctx, turn, r.ID))
		}
		err = errors.Join(err, st.Leave(ctx, r.ID))
	}
	return err
}

// rowsOf reads the whole ledger.
func rowsOf(ctx context.Context, st *sqlite.Store) (rows []store.Token, err error) {
	for f := (store.TokenFilter{Limit: 1000}); ; {
		page, next, err := st.Tokens(ctx, f)
		if err != nil {
			return nil, err
		}
		rows = append(rows, page...)
		if next == "" {
			return rows, nil
		}
		f.After = next
	}
}

// homeless are the tokens at upstream that the ledger has no id of.
func (m *minter) homeless(rows []store.Token) (list []simulator.Token) {
	known := map[string]bool{}
	for _, t := range rows {
		known[t.ID] = true
	}
	for _, t := range m.world.API.Tokens() {
		if !known[strings.ToLower(t.ID)] && !m.planted[t.ID] {
			list = append(list, t)
		}
	}
	return list
}

// quiet reports whether the ledger has nothing left to do.
func (m *minter) quiet(rows []store.Token) bool {
	return !slices.ContainsFunc(rows, underWay) && len(m.homeless(rows)) == 0
}

// inspect holds the ledger against what upstream has, and against what callers
// were told.
func (m *minter) inspect(rows []store.Token) (l balance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	there := map[string]string{} // names by id
	nonces := map[string]bool{}
	for _, t := range m.world.API.Tokens() {
		if !m.planted[t.ID] {
			there[strings.ToLower(t.ID)] = t.Name
			nonces[nonceOf(t.Name)] = true
			l.tokens++
		}
	}
	complain := func(count *int, format string, args ...any) {
		*count++
		fmt.Printf(format+"\n", args...)
	}
	live, gone := map[string]bool{}, map[string]bool{}
	for _, t := range rows {
		name, has := there[t.ID]
		switch t.State {
		case ledger.Live:
			l.live++
			live[t.ID] = true
			if !has || !strings.HasPrefix(name, t.Name+"-sg-") || nonceOf(name) != t.Nonce {
				complain(&l.lies, "a lie: %s is live, and upstream has %q", t.ID, name)
			}
		case ledger.Gone:
			l.gone++
			gone[t.ID] = true
			if !m.given[t.ID] {
				l.recovered++
			}
			if has {
				complain(&l.lies, "a lie: %s is gone, and upstream has %q", t.ID, name)
			}
		case ledger.Unknown:
			l.unknown++
			if nonces[t.Nonce] {
				complain(&l.lies, "a lie: the token of %s is unknown, and upstream has it", t.Nonce)
			}
		default:
			complain(&l.lies, "left undone: %s %s is %s: %s %s", t.ID, t.Nonce, t.State, t.Cause, t.Failure)
		}
	}
	for id, name := range there {
		if !live[id] {
			complain(&l.orphans, "an orphan: %s %q", id, name)
		}
	}
	for id := range m.given {
		switch {
		case !m.asked[id] && !live[id]:
			complain(&l.broken, "lost: a caller was given %s", id)
		case m.deleted[id] && !gone[id]:
			complain(&l.broken, "not deleted: a caller was told that %s is", id)
		}
	}
	m.foreign(complain, &l)
	return l
}

// foreign sees to it that what is not the gateway's was not touched.
func (m *minter) foreign(complain func(*int, string, ...any), l *balance) {
	left := map[string]bool{}
	for _, t := range m.world.API.Tokens() {
		left[t.ID] = true
	}
	for id := range m.planted {
		if !left[id] {
			complain(&l.broken, "deleted: %s, which is not the gateway's", id)
		}
	}
}

// nonceOf reads the nonce out of a stamped name: the last part but one.
func nonceOf(name string) string {
	parts := strings.Split(name, "-")
	if len(parts) < 6 {
		return ""
	}
	return parts[len(parts)-2]
}
