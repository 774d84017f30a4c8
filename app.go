package scopegate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"

	"github.com/scopegate/scopegate/limits"
)

func init() {
	caddy.RegisterModule(App{})
}

// App knows the gateways of one configuration. It is made when the first of
// them is provisioned and takes no configuration itself.
//
// It exists because an app, unlike a handler, is started and stopped: only a
// configuration that started becomes the one that admin routes show, so that
// a reload which fails leaves the running gateways answering.
type App struct {
	gateways map[string]*Gateway
}

// started are the apps that were started and not stopped, the newest last.
// There are two while a reload is under way. If that fails after all, since
// something else could not start, the one before is left, as it should.
var started struct {
	sync.Mutex
	apps []*App
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "scopegate",
		New: func() caddy.Module { return &App{gateways: map[string]*Gateway{}} },
	}
}

// Start makes the gateways of this configuration the running ones.
func (a *App) Start() error {
	started.Lock()
	defer started.Unlock()
	started.apps = append(started.apps, a)
	return nil
}

// Stop takes them out again.
func (a *App) Stop() error {
	started.Lock()
	defer started.Unlock()
	started.apps = slices.DeleteFunc(started.apps, func(other *App) bool { return other == a })
	return nil
}

// running returns the app of the configuration that runs now, nil for none.
func running() *App {
	started.Lock()
	defer started.Unlock()
	if len(started.apps) == 0 {
		return nil
	}
	return started.apps[len(started.apps)-1]
}

// register makes the gateway known to its configuration. Two of one name
// would share metrics, buckets and records without being told apart.
func (g *Gateway) register(ctx caddy.Context) error {
	mod, err := ctx.App("scopegate")
	if err != nil {
		return err
	}
	a, ok := mod.(*App)
	if !ok {
		return fmt.Errorf("app scopegate is a %T", mod)
	}
	if a.gateways[g.Name] != nil {
		return fmt.Errorf("gateway %q stands twice; give one of them another name: `scopegate <name> { ... }`", g.Name)
	}
	a.gateways[g.Name] = g
	return nil
}

// gateway finds a running gateway by name.
func gateway(name string) (*Gateway, bool) {
	a := running()
	if a == nil {
		return nil, false
	}
	g, ok := a.gateways[name]
	return g, ok
}

// gateways lists the running gateways by name.
func gateways() []*Gateway {
	a := running()
	if a == nil {
		return nil
	}
	var list []*Gateway
	for _, g := range a.gateways {
		list = append(list, g)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

// books holds the buckets of each gateway name across reloads, so that a
// reload gives no caller a fresh allowance.
var books = caddy.NewUsagePool()

type book struct{ *limits.Book }

// Destruct ends the pooled value when no configuration uses it.
func (book) Destruct() error { return nil }

func bookOf(name string) *limits.Book {
	v, _ := books.LoadOrStore(name, book{limits.NewBook()})
	return v.(book).Book //nolint:forcetypeassert // only books are stored in it
}

func returnBook(name string) error {
	_, err := books.Delete(name)
	return err
}

// tenure counts the requests inside a gateway. Caddy cleans a replaced
// configuration up while requests of it still run: what they use must last
// until the last of them has left.
type tenure struct {
	n     atomic.Int64 // requests inside; far below zero once ended
	freed atomic.Bool
	free  func() error
}

const ended = math.MinInt64 / 2

// enter reports whether the gateway still serves. Whoever got true leaves.
func (t *tenure) enter() bool {
	if t.n.Add(1) > 0 {
		return true
	}
	t.leave()
	return false
}

func (t *tenure) leave() {
	if t.n.Add(-1) == ended {
		_ = t.release() // nobody is left to be told
	}
}

// end admits no further request and frees what they use, now or when the last
// has left. It returns the error of freeing where that happened at once.
func (t *tenure) end(free func() error) error {
	t.free = free
	if t.n.Add(ended) != ended {
		return nil
	}
	return t.release()
}

// release frees, once. It does not wait for whoever does it already: that one
// may itself be waiting for a caller who tries to enter.
func (t *tenure) release() error {
	if t.freed.Swap(true) {
		return nil
	}
	return t.free()
}

var errRetired = errors.New("this configuration has been replaced and no gateway of its name runs")

// Interface guards.
var (
	_ caddy.App        = (*App)(nil)
	_ caddy.Destructor = book{}
)
