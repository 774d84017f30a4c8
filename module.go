// Package scopegate is a gateway before the GoodAccess API, as a module of
// Caddy. It holds the one real token, the master, and gives teams narrower
// credentials of its own: it forwards only what a credential permits, builds
// every request anew, and records each decision before it acts on it.
//
// This package puts the rooms together: it reads the configuration, walks a
// request through its steps and writes the answer. What a request may do is
// decided in policy, what a scope means in scopes, and only upstream ever
// holds the master token.
package scopegate

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
	_ "time/tzdata" // expires_zone must also resolve in an image without zone data

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/buildinfo"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/flights"
	"github.com/scopegate/scopegate/limits"
	"github.com/scopegate/scopegate/metrics"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/tokens"
	"github.com/scopegate/scopegate/upstream"
)

func init() {
	caddy.RegisterModule(new(Gateway))
}

// Gateway is a terminal handler that stands before the GoodAccess API. It
// takes a caller's credential from `Authorization: Bearer`, forwards what the
// credential permits with the master token, and refuses everything else.
//
// It sets the placeholders `{http.auth.user.id}` (the credential's id),
// `{http.scopegate.decision_id}`, `{http.scopegate.team}`,
// `{http.scopegate.operation}`, `{http.scopegate.scope}` (the scope that the
// operation needs) and `{http.scopegate.reason}`.
type Gateway struct {
	// The gateway's name, unique in the process. It stands in every record
	// and metric; the replicas of a fleet share it. Default: default.
	Name string `json:"name,omitempty"`

	// The API behind the gateway, and the master token for it. Required.
	Upstream *upstream.Config `json:"upstream,omitempty"`

	// The UUID of the master token at GoodAccess, so that no rule can ever
	// touch it.
	MasterTokenID string `json:"master_token_id,omitempty"`

	// When the master token ends: a gauge, and a warning 30 days before.
	MasterTokenExpires Date `json:"master_token_expires,omitzero"`

	// The time zone in which GoodAccess reads expires_at, such as
	// Europe/Prague. It is not documented; without it every expiry is judged
	// in the zone least kind to the caller, and max_ttl must be 24h or more.
	ExpiresZone string `json:"expires_zone,omitempty"`

	// Turns on the operations whose paths are inferred and were never seen.
	InferredOperations bool `json:"inferred_operations,omitempty"`

	// Sends reads of one team that are the same, and under way at the same
	// time, upstream once. No answer is kept: a change, by whomever, ends the
	// sharing of what was read before it. Default: each is sent.
	Coalesce bool `json:"coalesce,omitempty"`

	// Operations that the catalogue does not have.
	Operations []Operation `json:"operations,omitempty"`

	// The secret of the stamps in the names of minted tokens, exactly one
	// {env.NAME} or {file.PATH}. Default: one that is made once and kept in
	// the store. Tokens that were stamped with another one are foreign.
	StampKey string `json:"stamp_key,omitempty"`

	// The longest name that GoodAccess is sent for a token, in characters; 59
	// of them are the stamp's. Default: 128.
	MaxTokenName int `json:"max_token_name,omitempty"`

	// How often the ledger is held against GoodAccess's list of tokens.
	// Default: 15m. Below zero: only when asked.
	Reconcile caddy.Duration `json:"reconcile,omitempty"`

	// Where credentials are kept. Default: an SQLite file in Caddy's data
	// directory.
	Store *Store `json:"store,omitempty"`

	// The teams and their grants.
	Teams []*Team `json:"teams,omitempty"`

	// Where the audit log goes. Default: a file in Caddy's data directory.
	Audit *Audit `json:"audit,omitempty"`

	logger    *zap.Logger
	rules     *compiled
	room      *storeroom            // nil: no store
	directory *credential.Directory // nil: no store
	auth      *credential.Authenticator
	granted   map[scopes.Set][]string        // X-OAuth-Scopes of each grant
	accepted  map[*scopes.Operation][]string // X-Accepted-OAuth-Scopes of each operation
	stamper   *tokens.Stamper                // nil: no store
	answers   [32]byte                       // what idempotency keys are looked up by
	book      *limits.Book
	plan      *limits.Plan
	meter     *metrics.Metrics
	log       *audit.Log
	logFile   *durableLog
	mirrors   []io.WriteCloser
	anchors   []func() error // end them
	forward   *upstream.Forwarder
	flights   *flights.Board[*upstream.Kept] // nil: each read is sent
	inside    tenure
}

// CaddyModule returns the Caddy module information.
func (*Gateway) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.scopegate",
		New: func() caddy.Module { return new(Gateway) },
	}
}

// Provision checks the configuration and opens what the gateway needs. Where
// it fails half-way, Cleanup gives back what was opened.
func (g *Gateway) Provision(ctx caddy.Context) error {
	if g.Name == "" {
		g.Name = "default"
	}
	g.logger = ctx.Logger()
	if err := g.check(); err != nil {
		return err
	}
	for _, note := range g.rules.notes {
		g.logger.Warn("a grant may not say what it seems to", zap.String("note", note))
	}
	g.granted = map[scopes.Set][]string{}
	for _, t := range g.rules.teams {
		g.granted[t.Scopes] = []string{t.Scopes.String()}
	}
	for _, c := range g.rules.credentials {
		g.granted[c.Identity.Scopes] = []string{c.Identity.Scopes.String()}
	}
	g.accepted = map[*scopes.Operation][]string{}
	for _, op := range g.rules.router.Operations() {
		g.accepted[op] = []string{op.ScopeName()}
	}

	if err := g.register(ctx); err != nil {
		return err
	}
	var err error
	if g.meter, err = metrics.New(ctx.GetMetricsRegistry(), g.Name, g.teamNames(), g.operationIDs()); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	if !g.MasterTokenExpires.IsZero() {
		g.meter.MasterExpires(g.MasterTokenExpires.At)
		if time.Until(g.MasterTokenExpires.At) < masterEndsSoon {
			g.logger.Warn("the master token ends soon", zap.Time("expires", g.MasterTokenExpires.At))
		}
	}
	if onlyTried(os.Args) {
		err = g.tryPlaces(ctx)
	} else {
		err = g.openPlaces(ctx)
	}
	if err != nil {
		return err
	}
	g.book = bookOf(g.Name)
	g.plan = g.book.Plan(g.rules.limits)
	if g.Coalesce {
		g.flights = flights.NewBoard[*upstream.Kept](&changes)
	}
	g.forward, err = upstream.New(ctx, g.Upstream, upstream.Options{
		Events: g.meter, Logger: g.logger.Named("upstream"),
		UserAgent: "scopegate/" + buildinfo.Version(), Teams: len(g.Teams),
	})
	return err
}

// onlyTried reports whether this process provisions configurations and serves
// none, which Caddy does not tell its modules.
func onlyTried(args []string) bool {
	return len(args) > 1 && (args[1] == "validate" || args[1] == "adapt")
}

// openPlaces opens what the gateway writes to.
func (g *Gateway) openPlaces(ctx caddy.Context) error {
	if err := g.openAudit(ctx); err != nil {
		return err
	}
	if err := g.openStore(ctx); err != nil {
		return err
	}
	return g.openAnchors(ctx)
}

// tryPlaces sees whether the words for these can be read, and opens none. The log
// of a gateway that runs could not be opened, and where none runs it, its key and
// the store would be made: by root, for a user who could then not write them.
func (g *Gateway) tryPlaces(ctx caddy.Context) error {
	if err := g.tryAudit(ctx); err != nil {
		return err
	}
	if _, err := g.resolveStore(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// check is all of Provision that needs no I/O.
func (g *Gateway) check() error {
	var errs []error
	if g.Name != "" && !validName(g.Name) {
		errs = append(errs, fmt.Errorf("gateway: %w", errName(g.Name)))
	}
	if g.Upstream == nil {
		errs = append(errs, errors.New("no upstream: say where GoodAccess is, such as `upstream https://integration.goodaccess.com { master_token {file./run/secrets/goodaccess} }`"))
	} else if err := g.Upstream.Validate(); err != nil {
		errs = append(errs, err)
	}
	if g.MasterTokenID != "" && !scopes.IsUUID(g.MasterTokenID) {
		errs = append(errs, fmt.Errorf("master_token_id %q is not a UUID", g.MasterTokenID))
	}
	if err := g.Audit.validate(); err != nil {
		errs = append(errs, err)
	}
	var err error
	if g.rules, err = g.compile(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Validate refuses what would run but never be of use.
func (g *Gateway) Validate() error {
	if len(g.Teams) == 0 {
		return errors.New("no team: nobody could use this gateway; add `team <name> { scopes ... }`")
	}
	return nil
}

// Cleanup gives back what Provision opened, however far that got, once the
// last request inside has left.
func (g *Gateway) Cleanup() error {
	return g.inside.end(func() error {
		var errs []error
		if g.forward != nil {
			errs = append(errs, g.forward.Close())
		}
		if g.plan != nil {
			g.plan.Close()
		}
		if g.book != nil {
			errs = append(errs, returnBook(g.Name))
		}
		errs = append(errs, g.closeAudit()) // its last signature goes into the store
		errs = append(errs, g.closeStore())
		if g.meter != nil {
			g.meter.Close()
		}
		return errors.Join(errs...)
	})
}

func (g *Gateway) teamNames() []string {
	var names []string
	for _, t := range g.rules.teams {
		names = append(names, t.Name)
	}
	return names
}

// grantedHeader is X-OAuth-Scopes for a grant. Those of teams and of static
// credentials are known; one that a stored credential narrows is not.
func (g *Gateway) grantedHeader(set scopes.Set) []string {
	if h, ok := g.granted[set]; ok {
		return h
	}
	return []string{set.String()}
}

func (g *Gateway) operationIDs() []string {
	var ids []string
	for _, op := range g.rules.router.Operations() {
		ids = append(ids, op.ID)
	}
	return ids
}

// defaultAuditFile is in Caddy's data directory, beside its certificates.
func (g *Gateway) defaultAuditFile() string {
	return filepath.Join(caddy.AppDataDir(), "scopegate", g.Name, "audit.jsonl")
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Gateway)(nil)
	_ caddy.Validator             = (*Gateway)(nil)
	_ caddy.CleanerUpper          = (*Gateway)(nil)
	_ caddyhttp.MiddlewareHandler = (*Gateway)(nil)
)
