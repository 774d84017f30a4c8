package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/sqlite"
)

var errReset = errors.New("connection reset")

// account is GoodAccess as a ledger sees it, in memory. It does what its faults
// leave of it.
type account struct {
	mu     sync.Mutex
	tokens []Seen
	calls  []string
	notes  []string
	ended  []string
	away   bool // no configuration runs

	// before, if set, can fail a call that then changes nothing, and after one
	// that has done what it was asked for.
	before, after func(operation, id string) error

	// listed, if set, is called before each token that is listed.
	listed func(id string)
}

func (a *account) call(operation, id string) error {
	a.mu.Lock()
	a.calls = append(a.calls, operation+" "+id)
	before := a.before
	a.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(operation, id)
}

func (a *account) replied(operation, id string) error {
	if a.after == nil {
		return nil
	}
	return a.after(operation, id)
}

func (a *account) Delete(_ context.Context, c Call) error {
	if err := a.call("delete", c.ID); err != nil {
		return err
	}
	if !a.remove(c.ID) {
		return ErrNone
	}
	return a.replied("delete", c.ID)
}

func (a *account) Read(_ context.Context, c Call) (Seen, error) {
	if err := a.call("read", c.ID); err != nil {
		return Seen{}, err
	}
	for _, s := range a.all() {
		if s.ID == c.ID {
			return s, a.replied("read", c.ID)
		}
	}
	return Seen{}, ErrNone
}

func (a *account) List(_ context.Context, _ string, each func(Seen) error) error {
	if err := a.call("list", ""); err != nil {
		return err
	}
	for _, s := range a.all() {
		if a.listed != nil {
			a.listed(s.ID)
		}
		if err := each(s); err != nil {
			return err
		}
	}
	return a.replied("list", "")
}

func (a *account) Note(c Call) error {
	if a.before != nil {
		if err := a.before("note", c.ID); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notes = append(a.notes, c.Cause)
	return nil
}

func (a *account) Ended(time.Time) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ended
}

func (a *account) Ready() bool { return !a.away }

// add makes a token as upstream does; without a nonce it is foreign.
func (a *account) add(id, nonce string, differs ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens = append(a.tokens, Seen{
		ID: id, Name: "token of " + cmp.Or(nonce, "somebody"), Nonce: nonce,
		Differs: func(store.Token) []string { return differs },
	})
}

func (a *account) remove(id string) (was bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.tokens)
	a.tokens = slices.DeleteFunc(a.tokens, func(s Seen) bool { return s.ID == id })
	return len(a.tokens) < n
}

func (a *account) all() []Seen {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.tokens)
}

func (a *account) has(id string) bool {
	return slices.ContainsFunc(a.all(), func(s Seen) bool { return s.ID == id })
}

// asked counts the calls of an operation so far.
func (a *account) asked(operation string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, call := range a.calls {
		if call == operation || len(call) > len(operation) && call[:len(operation)+1] == operation+" " {
			n++
		}
	}
	return n
}

// faults makes all calls of some operations fail.
func (a *account) faults(err error, operations ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.before = func(operation, _ string) error {
		if slices.Contains(operations, operation) {
			return err
		}
		return nil
	}
}

func (a *account) heal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.before, a.after, a.listed = nil, nil, nil
}

// events keeps what a ledger counts.
type events struct {
	mu      sync.Mutex
	counts  []store.TokenCount
	reports []*Report
}

func (e *events) Tokens(counts []store.TokenCount) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts = counts
}

func (e *events) Reconciled(r *Report) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reports = append(e.reports, r)
}

// faulty is a store whose calls can fail.
type faulty struct {
	*sqlite.Store

	mu    sync.Mutex
	fault func(call string) error
	calls map[string]int

	patience time.Duration // of who looked for stranded tokens last
}

func (f *faulty) fails(call string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[call]++
	if f.fault == nil {
		return nil
	}
	return f.fault(call)
}

func (f *faulty) called(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[call]
}

func (f *faulty) UpdateToken(ctx context.Context, t store.Token, sealed []byte) (store.Token, error) {
	if err := f.fails("update"); err != nil {
		return store.Token{}, err
	}
	return f.Store.UpdateToken(ctx, t, sealed)
}

func (f *faulty) DueTokens(ctx context.Context, states []string, limit int) ([]store.Token, error) {
	if err := f.fails("due"); err != nil {
		return nil, err
	}
	return f.Store.DueTokens(ctx, states, limit)
}

func (f *faulty) MoveTokens(ctx context.Context, filter store.TokenFilter, from, to, cause string) (int, error) {
	if err := f.fails("move"); err != nil {
		return 0, err
	}
	return f.Store.MoveTokens(ctx, filter, from, to, cause)
}

func (f *faulty) FindTokens(ctx context.Context, ids, nonces []string) ([]store.Token, error) {
	if err := f.fails("find"); err != nil {
		return nil, err
	}
	return f.Store.FindTokens(ctx, ids, nonces)
}

func (f *faulty) StrandedTokens(ctx context.Context, limit int) ([]store.Token, error) {
	if until, bounded := ctx.Deadline(); bounded {
		f.patience = time.Until(until)
	}
	if err := f.fails("stranded"); err != nil {
		return nil, err
	}
	return f.Store.StrandedTokens(ctx, limit)
}

// world is a ledger with its store and its account. Its time is a bubble's.
type world struct {
	*Ledger
	up     *account
	events *events
	rows   *faulty
	skewed bool
	warned []string
	path   string
	made   int
}

const (
	team = "red"
	made = "key"
	day  = 24 * time.Hour
)

// inWorld runs a test in a bubble of its own.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	synctest.Test(t, func(t *testing.T) { test(t, openWorld(t, path)) })
}

func openWorld(t *testing.T, path string) *world {
	t.Helper()
	db, err := sqlite.Open(t.Context(), path, "main")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{up: &account{}, rows: &faulty{Store: db, calls: map[string]int{}}, path: path}
	w.join("one")
	return w
}

// join makes the world's ledger that of another replica.
func (w *world) join(holder string) *world {
	w.events = &events{}
	w.Ledger = New(Options{
		Rows: w.rows, API: w.up, Events: w.events, Holder: holder,
		Now:    func() time.Time { return time.Now().UTC() },
		Warn:   func(_ string, err error) { w.warned = append(w.warned, err.Error()) },
		Skewed: func() bool { return w.skewed },
	})
	return w
}

// replica is another ledger of the same store and account.
func (w *world) replica(holder string) *world {
	other := &world{up: w.up, rows: w.rows, path: w.path}
	return other.join(holder)
}

func uuid(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }

// next names another token.
func (w *world) next() (id, nonce string) {
	w.made++
	return uuid(w.made), fmt.Sprintf("nonce%015d", w.made)
}

// asks is a mint of the next nonce.
func (w *world) asks(nonce string) Asked {
	return Asked{
		Nonce: nonce, Team: team, Credential: made, Name: "report", Scopes: []string{"members.read"}, AllowedIPs: []string{"192.0.2.1"},
		ExpiresAt: "2000-02-01 00:00:00", Expires: time.Now().Add(30 * day), Within: time.Minute,
	}
}

func (w *world) begin(t *testing.T) (m *Mint, id string) {
	t.Helper()
	id, nonce := w.next()
	m, err := w.Begin(t.Context(), w.asks(nonce))
	if err != nil {
		t.Fatal(err)
	}
	return m, id
}

// mint makes a token that is live, and returns its row.
func (w *world) mint(t *testing.T) store.Token {
	t.Helper()
	m, id := w.begin(t)
	w.up.add(id, m.Row().Nonce)
	ok(t, m.Made(t.Context(), id))
	ok(t, m.Live(t.Context(), nil))
	return m.Row()
}

// lose makes a token whose reply does not come.
func (w *world) loses(t *testing.T) (row store.Token, id string) {
	t.Helper()
	m, id := w.begin(t)
	w.up.add(id, m.Row().Nonce)
	ok(t, m.Lost(t.Context(), "reset"))
	return w.row(t, m.Row().Nonce), id
}

// owes is a token that is to be deleted.
func (w *world) owes(t *testing.T) store.Token {
	t.Helper()
	row, err := w.Revoke(t.Context(), w.mint(t), "its team asked", 0)
	ok(t, err)
	return row
}

func (w *world) row(t *testing.T, nonce string) store.Token {
	t.Helper()
	row, err := w.Nonce(t.Context(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// is fails unless a row is in a state.
func (w *world) is(t *testing.T, nonce, state string) store.Token {
	t.Helper()
	row := w.row(t, nonce)
	if row.State != state {
		t.Fatalf("%s is %s (%s), not %s", nonce, row.State, row.Cause, state)
	}
	return row
}

// runs pays what is owed for a time.
func (w *world) runs(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	w.Run(ctx)
}

func (w *world) reconciles(t *testing.T, o Reconciliation) *Report {
	t.Helper()
	report, err := w.Reconcile(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
