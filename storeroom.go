package scopegate

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/scopegate/scopegate/buildinfo"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/fleet"
	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/limits"
	"github.com/scopegate/scopegate/metrics"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/postgres"
	"github.com/scopegate/scopegate/store/sqlite"
	"github.com/scopegate/scopegate/tokens"
)

// The stores that a gateway can have.
const (
	storeSQLite   = "sqlite"
	storePostgres = "postgres"
	storeNone     = "none"
)

// storePatience bounds a call of the store that nobody waits for.
const storePatience = 5 * time.Second

// rows is what a gateway uses of a store beyond what credential and fleet do.
type rows interface {
	credential.Rows
	fleet.Store
	ledger.Rows
	Used(ctx context.Context, uses map[string]store.Use) error
	Answer(ctx context.Context, key [32]byte) (store.Answer, error)
	Secret(ctx context.Context, name string, candidate []byte) ([]byte, error)
	Anchor(ctx context.Context, a store.Anchor) error
	Anchors(ctx context.Context, log string) ([]store.Anchor, error)
	Close() error
}

// storeroom is a gateway's store and all that lives as long as it is open:
// longer than a configuration, so that a reload neither reads the credentials
// anew nor makes another replica of this process. A nil storeroom is that of
// `store none`.
type storeroom struct {
	key     string // in the pool
	gateway string
	rows    rows
	cache   *credential.Cache
	member  *fleet.Member
	usage   *credential.Usage
	errands *errands
	ledger  *ledger.Ledger
	meter   *metrics.Store
	book    *limits.Book
	end     context.CancelFunc
	running sync.WaitGroup
}

var storerooms = caddy.NewUsagePool()

// openStore takes the storeroom of this configuration, and opens it first
// where no configuration before had it.
func (g *Gateway) openStore(ctx context.Context) error {
	conf, err := g.resolveStore()
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if conf.Driver == storeNone {
		g.auth = credential.NewAuthenticator(g.rules.static)
		return nil
	}
	v, _, err := storerooms.LoadOrNew(conf.key(g.Name), func() (caddy.Destructor, error) {
		return newStoreroom(ctx, g.Name, conf)
	})
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	g.room = v.(*storeroom) //nolint:forcetypeassert // only storerooms are stored in it
	g.directory = credential.NewDirectory(g.room.cache, g.rules.static, g.rules.byName())
	g.auth = credential.NewAuthenticator(g.directory)
	return g.openStamps(ctx)
}

// openStamps makes what stamps the names of tokens. What no configuration says
// of it is made once, and kept in the store for all replicas.
func (g *Gateway) openStamps(ctx context.Context) error {
	fresh := make([]byte, 32)
	rand.Read(fresh) // never fails: the runtime stops the process instead
	id, err := g.room.rows.Secret(ctx, "gateway", []byte(tokens.NewGatewayID()))
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	secret, err := g.room.rows.Secret(ctx, "stamps", fresh)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	own, err := tokens.NewStampKey(secret)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	g.answers = own.Derive("idempotency")
	if g.StampKey != "" {
		text, err := caddy.NewReplacer().ReplaceOrErr(g.StampKey, true, true)
		if err != nil {
			return fmt.Errorf("stamp_key: %s is not set, is empty or cannot be read", g.StampKey)
		}
		if own, err = tokens.NewStampKey([]byte(strings.TrimSpace(text))); err != nil {
			return fmt.Errorf("stamp_key: %s: %w", g.StampKey, err)
		}
	}
	g.stamper, err = tokens.NewStamper(string(id), own)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// How often the ledger is reconciled if nothing is said, and at most.
const (
	defaultReconcile = 15 * time.Minute
	minReconcile     = time.Minute
)

// reconcileEvery is what the configuration that runs now says; 0 is never.
func reconcileEvery(name string) time.Duration {
	g, ok := gateway(name)
	switch {
	case !ok, g.Reconcile < 0:
		return 0
	case g.Reconcile == 0:
		return defaultReconcile
	}
	return time.Duration(g.Reconcile)
}

func (g *Gateway) closeStore() error {
	if g.room == nil {
		return nil
	}
	_, err := storerooms.Delete(g.room.key)
	return err
}

// validate checks what can be checked without I/O. No configuration is the
// default one.
func (s *Store) validate() error {
	if s == nil {
		return nil
	}
	switch {
	case s.Driver != "" && s.Driver != storeSQLite && s.Driver != storePostgres && s.Driver != storeNone:
		return fmt.Errorf("unknown driver %q; expected sqlite, postgres or none", s.Driver)
	case s.Driver == storePostgres && !onePlaceholder.MatchString(s.Address):
		return errors.New("the address of postgres must be exactly one {env.NAME} or {file.PATH}: it holds a password, and Caddy would show it at GET /config/ and save it to disk")
	case s.Driver != storePostgres && (s.Address != "" || s.Poll):
		return errors.New("address and poll belong to postgres")
	case s.Path != "" && s.Driver != "" && s.Driver != storeSQLite:
		return errors.New("path belongs to sqlite")
	case strings.ContainsAny(s.Path, "{}?"):
		return errors.New("path must be a plain path, without placeholders or question marks")
	case s.Grace < 0 || time.Duration(s.Grace) > maxGrace:
		return fmt.Errorf("store_grace must be above zero and at most %s", maxGrace)
	}
	return nil
}

// maxGrace keeps a gateway from serving on for long by what it once knew.
const maxGrace = time.Hour

// A default within the placeholder would be an address that stands in the
// configuration, so no colon is allowed.
var onePlaceholder = regexp.MustCompile(`^\{(env\.[^{}:=\s]+|file\.[^{}:]+)\}$`)

// openable is a Store with its defaults and its address filled in.
type openable struct {
	Store
	address string
}

func (g *Gateway) resolveStore() (openable, error) {
	var o openable
	if g.Store != nil {
		o.Store = *g.Store
	}
	if err := o.validate(); err != nil {
		return o, err
	}
	if o.Grace == 0 {
		o.Grace = caddy.Duration(fleet.DefaultGrace)
	}
	var err error
	switch o.Driver {
	case "", storeSQLite:
		o.Driver = storeSQLite
		if o.Path == "" {
			o.Path = filepath.Join(caddy.AppDataDir(), "scopegate", g.Name, "store.db")
		}
		if o.Path, err = filepath.Abs(o.Path); err != nil {
			return o, fmt.Errorf("finding the file: %w", err)
		}
	case storePostgres:
		o.address, err = caddy.NewReplacer().ReplaceOrErr(o.Address, true, true)
		if err != nil || strings.TrimSpace(o.address) == "" {
			return o, fmt.Errorf("the address of postgres, %s, is not set, is empty or cannot be read", o.Address)
		}
	}
	return o, nil
}

// key tells storerooms apart. The address is in it as a digest, so that a
// password changed in its file takes effect at a reload.
func (o openable) key(gateway string) string {
	sum := sha256.Sum256([]byte(o.address))
	return fmt.Sprintf("%s %s %q %q %v %s %s", gateway, o.Driver, o.Path, o.Address, o.Poll, time.Duration(o.Grace), hex.EncodeToString(sum[:]))
}

// open opens the store itself.
func (o openable) open(ctx context.Context, gateway string) (rows, error) {
	if o.Driver == storeSQLite {
		db, err := sqlite.Open(ctx, o.Path, gateway)
		if err != nil {
			return nil, fmt.Errorf("opening %s: %w", o.Path, err)
		}
		return db, nil
	}
	var opts []postgres.Option
	if o.Poll {
		opts = append(opts, postgres.WithoutNotify())
	}
	db, err := postgres.Open(ctx, o.address, gateway, opts...)
	if err != nil {
		return nil, fmt.Errorf("opening the database at %s: %w", o.Address, err)
	}
	return db, nil
}

// synchronousCommit returns how a database confirms a change; "" for one that
// always keeps what it confirmed.
func synchronousCommit(ctx context.Context, db rows) (string, error) {
	if pg, ok := db.(*postgres.Store); ok {
		return pg.SynchronousCommit(ctx)
	}
	return "", nil
}

// loses reports whether a confirmed change may be lost when the database fails.
func loses(synchronousCommit string) bool {
	return synchronousCommit == "off"
}

func newStoreroom(ctx context.Context, gateway string, conf openable) (*storeroom, error) {
	db, err := conf.open(ctx, gateway)
	if err != nil {
		return nil, err
	}
	// Caddy's logger at the time of the event: this outlives configurations.
	warn := func(msg string, err error) {
		caddy.Log().Named("scopegate").Warn(msg, zap.String("gateway", gateway), zap.Error(err))
	}
	if mode, err := synchronousCommit(ctx, db); err == nil && loses(mode) {
		warn("a revocation may be lost when the database fails: set synchronous_commit to on", nil)
	}
	r := &storeroom{
		key: conf.key(gateway), gateway: gateway, rows: db, meter: metrics.NewStore(gateway), book: bookOf(gateway),
	}
	r.cache = credential.NewCache(db, r.meter)
	host, _ := os.Hostname()
	id := uuid.Must(uuid.NewV7()).String()
	// The member tells the ledger what has changed, from the moment that it
	// joins; the ledger asks the member only once it runs.
	now := func() time.Time { return r.member.Now() }
	r.ledger = ledger.New(ledger.Options{
		Rows: db, API: ledgerCalls{gateway}, Events: ledgerEvents{r.meter, now}, Now: now, Holder: id, Warn: warn,
		Skewed: func() bool { return r.member.Skewed() },
	})
	r.member = fleet.Join(db, fleet.Options{
		ID: id, Host: host, Version: buildinfo.Version(),
		Grace: time.Duration(conf.Grace),
		Apply: func(list []store.Change) {
			for _, c := range list {
				r.cache.Forget(c.ID)
				r.ledger.Changed(c.ID)
			}
		},
		Reset: func() {
			r.cache.ForgetAll()
			r.ledger.AnyChanged()
		},
		Events: fleetEvents{r.meter, r.book},
		Warn:   warn,
	})
	work, cancel := context.WithCancel(context.Background())
	r.end = cancel
	r.usage = credential.NewUsage(db, func(err error) { warn("the last uses of credentials could not be stored", err) })
	r.errands = newErrands(gateway)
	r.running.Go(func() { r.usage.Run(work) })
	r.running.Go(func() { r.errands.run(work) })
	r.running.Go(func() { r.ledger.Run(work) })
	r.running.Go(func() { r.ledger.RunReconciler(work, func() time.Duration { return reconcileEvery(gateway) }) })
	if err := r.member.First(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("reading it the first time: %w", err), r.Destruct())
	}
	return r, nil
}

// fleetEvents also holds this process to its share of the limits.
type fleetEvents struct {
	*metrics.Store
	book *limits.Book
}

// Replicas takes the number of live replicas.
func (e fleetEvents) Replicas(live int) {
	e.Store.Replicas(live)
	e.book.Share(live)
}

// ledgerEvents shows the state of the ledger.
type ledgerEvents struct {
	meter *metrics.Store
	now   func() time.Time
}

// Tokens takes how many tokens there are.
func (e ledgerEvents) Tokens(counts []store.TokenCount) {
	type group struct{ team, state string }
	groups, owed, oldest := map[group]int{}, 0, time.Duration(0)
	for _, c := range counts {
		groups[group{c.Team, c.State}] += c.N
		if c.State == ledger.Revoking {
			owed += c.N
			oldest = max(oldest, e.now().Sub(c.Oldest))
		}
	}
	list := make([]metrics.LedgerCount, 0, len(groups))
	for g, n := range groups {
		list = append(list, metrics.LedgerCount{Team: g.team, State: g.state, N: n})
	}
	e.meter.Ledger(list, owed, oldest)
}

// Reconciled takes what a reconciliation found.
func (e ledgerEvents) Reconciled(r *ledger.Report) {
	e.meter.Reconciliation(r.Started, r.Counts, r.Stopped != "")
}

// Destruct leaves the fleet and closes the store.
func (r *storeroom) Destruct() error {
	r.end()
	r.running.Wait()
	err := errors.Join(r.member.Close(), r.rows.Close())
	// Whoever has no store is alone. Another store that took this one's place
	// in a reload says how many they are with its next report.
	r.book.Share(1)
	err = errors.Join(err, returnBook(r.gateway))
	r.cache.ForgetAll() // gives its memory back
	r.meter.Close()
	return err
}

// fresh reports whether the store was heard from within its grace.
func (r *storeroom) fresh(now time.Time) bool { return r == nil || r.member.Fresh(now) }

// epoch grows when any credential changes.
func (r *storeroom) epoch() uint64 {
	if r == nil {
		return 0
	}
	return r.cache.Epoch()
}

// used notes that a stored credential was used.
func (r *storeroom) used(q *request) {
	if r == nil || q.caller == nil || q.caller.Generation == 0 || q.match.Operation == nil {
		return
	}
	r.usage.Note(q.caller.Identity.Credential, q.started, q.client, q.match.Operation.ID)
}

// supersede ends the key before this one where it was to work only until this
// one was used.
func (r *storeroom) supersede(c *credential.Credential) {
	if r != nil && c.Supersedes != 0 {
		r.errands.add(errand{kind: credential.KindEnd, id: c.Identity.Credential, generation: c.Supersedes})
	}
}

// reused tells of a key that was used although another has replaced it: a
// thief has it, or a machine was forgotten when the key was rotated.
func (g *Gateway) reused(c *credential.Credential, from string) {
	team := c.Identity.Team.Name
	g.meter.RetiredKeyUsed(team)
	g.room.errands.add(errand{
		kind: credential.KindLock, id: c.Identity.Credential, generation: c.Generation,
		from: from, team: team, lock: g.rules.locks[team],
	})
}

// name returns the credential's name. That of a stored one is looked up, since
// hardly any request needs it.
func (g *Gateway) name(id *policy.Identity) string {
	if id.Name != "" || g.directory == nil {
		return id.Name
	}
	return g.directory.Name(id.Credential)
}

// byName finds teams, as the configuration has them.
func (c *compiled) byName() map[string]*policy.Team {
	teams := make(map[string]*policy.Team, len(c.teams))
	for _, t := range c.teams {
		teams[t.Name] = t
	}
	return teams
}
