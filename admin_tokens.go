package scopegate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/tokens"
)

// The changes that operators make to the ledger, as records name them.
const (
	changeTokenRevoke = "token-revoke"
	changeTokenAdopt  = "token-adopt"
	changeTeamDrain   = "team-drain"
	changeReconcile   = "reconcile"
)

// tokenStates are the states that a list can be asked for.
var tokenStates = []string{ledger.Intent, ledger.Live, ledger.Unknown, ledger.Revoking, ledger.Gone}

// tokenView is a row of the ledger as the API shows it.
type tokenView struct {
	ID         string     `json:"id"` // empty while it is not known
	Nonce      string     `json:"nonce"`
	Team       string     `json:"team"`
	Credential string     `json:"credential"`
	State      string     `json:"state"`
	Cause      string     `json:"cause,omitempty"`
	Name       string     `json:"name"`
	Scopes     []string   `json:"scopes"`
	AllowedIPs []string   `json:"allowed_ips"`
	ExpiresAt  string     `json:"expires_at"`        // as it was sent
	Expires    *time.Time `json:"expires,omitempty"` // the latest that it can mean
	Created    time.Time  `json:"created_at"`        // by the store's clock
	Changed    time.Time  `json:"changed_at"`        // likewise
	Adopted    bool       `json:"adopted"`           //
	AdoptedBy  string     `json:"adopted_by,omitempty"`
	Attempts   int        `json:"attempts"` // to delete it
	Next       *time.Time `json:"next_attempt_at,omitempty"`
	Failure    string     `json:"failure,omitempty"` // of the last attempt
}

func viewToken(t store.Token) tokenView {
	v := tokenView{
		ID: t.ID, Nonce: t.Nonce, Team: t.Team, Credential: t.Credential, State: t.State, Cause: t.Cause,
		Name: tokens.Unstamped(t.Name), Scopes: append([]string{}, t.Scopes...), AllowedIPs: append([]string{}, t.AllowedIPs...),
		ExpiresAt: t.ExpiresAt, Expires: timeOf(t.Expires), Created: t.Created, Changed: t.Changed,
		Adopted: t.Adopted, AdoptedBy: t.CreatedBy, Attempts: t.Attempts, Failure: t.Failure,
	}
	if t.State == ledger.Revoking {
		v.Next = timeOf(t.Due)
	}
	return v
}

// tokenPage is a page of the ledger.
type tokenPage struct {
	Tokens []tokenView `json:"tokens"`
	Next   string      `json:"next,omitempty"`
}

func (c *call) listTokens() error {
	f, err := c.tokenFilter()
	if err != nil {
		return err
	}
	page, err := c.tokens(f)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, page)
}

func (c *call) tokens(f store.TokenFilter) (page tokenPage, err error) {
	page.Tokens = []tokenView{}
	err = c.office.ledgerRows(func(r rows) error {
		list, next, err := r.Tokens(c.r.Context(), f)
		for _, t := range list {
			page.Tokens = append(page.Tokens, viewToken(t))
		}
		page.Next = next
		return err
	})
	return page, err
}

// tokenFilter reads what a list is asked for.
func (c *call) tokenFilter() (f store.TokenFilter, err error) {
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return f, badRequest("", "the query cannot be read")
	}
	known := []string{"team", "credential", "state", "limit", "after"}
	for name, values := range query {
		if !slices.Contains(known, name) {
			return f, missing(kindBadRequest, "there is no parameter %s", name, known)
		}
		if len(values) > 1 {
			return f, badRequest(name, "it stands twice")
		}
		switch value := values[0]; name {
		case "team":
			f.Team = value
		case "credential":
			f.Credential = value
		case "state":
			f.States = strings.Split(value, ",")
			for _, state := range f.States {
				if !slices.Contains(tokenStates, state) {
					return f, badRequest(name, "expected one of %s", strings.Join(tokenStates, ", "))
				}
			}
		case "limit":
			if f.Limit, err = strconv.Atoi(value); err != nil || f.Limit < 1 || f.Limit > maxListed {
				return f, badRequest(name, "expected a number from 1 to %d", maxListed)
			}
		case "after":
			f.After = value
		}
	}
	return f, c.knownTeam("team", f.Team)
}

// token finds a row by its id or, while it has none, by its nonce.
func (c *call) token() (t store.Token, err error) {
	name := c.r.PathValue("id")
	err = c.office.ledgerRows(func(r rows) error {
		if scopes.IsUUID(name) {
			t, err = r.Token(c.r.Context(), strings.ToLower(name))
		} else {
			t, err = r.TokenByNonce(c.r.Context(), name)
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = &problemError{Kind: kindUnknownToken, Detail: "the ledger has no token of that id or nonce; a token that was made past the gateway can be adopted"}
	}
	return t, err
}

func (c *call) showToken() error {
	t, err := c.token()
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, viewToken(t))
}

// revokeToken has a token deleted. The queue tries it at once, and until it is
// gone.
func (c *call) revokeToken() error {
	var body struct {
		Note string `json:"note"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	g, err := c.keeper()
	if err != nil {
		return err
	}
	t, err := c.token()
	if err != nil {
		return err
	}
	if t.State == ledger.Revoking || t.State == ledger.Gone {
		return c.reply(http.StatusOK, viewToken(t))
	}
	if t.State != ledger.Live {
		return &problemError{Kind: kindState, Detail: "the token is " + t.State + ": what becomes of it is being found out, and it is deleted if it is there"}
	}
	err = c.recorded(g, audit.Record{Change: changeTokenRevoke, Team: t.Team, Credential: t.Credential, TokenID: t.ID, Note: body.Note}, func(ctx context.Context, by string) error {
		t, err = g.room.ledger.Revoke(ctx, t, cmp.Or(body.Note, "revoked by "+by), 0)
		return err
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, viewToken(t))
}

// keeper is the running gateway, where it has a ledger.
func (c *call) keeper() (*Gateway, error) {
	g, err := c.running()
	if err == nil && g.room == nil {
		err = errNoStore
	}
	return g, err
}

// recorded makes a change of the ledger between its two records. All that
// operators change there but an adoption takes rights away, so it is recorded
// even where the disk is full.
func (c *call) recorded(g *Gateway, rec audit.Record, do func(ctx context.Context, by string) error) error {
	by, err := c.operator()
	if err != nil {
		return err
	}
	if !g.inside.enter() {
		return errRetired
	}
	defer g.inside.leave()
	ctx, cancel := c.lasting()
	defer cancel()
	write := g.log.WriteRevocation
	if rec.Change == changeTokenAdopt {
		write = g.log.WriteChange
	}
	started := time.Now()
	rec.UUID, rec.Operator = newID(), by
	rec.Phase, rec.Decision, rec.Reason = audit.Decided, audit.Allow, policy.Allowed.String()
	if err := write(&rec); err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	err = do(ctx, by)
	rec.Phase, rec.Complete, rec.Duration = audit.Ended, err == nil, time.Since(started)
	_ = write(&rec) // that it was asked for is recorded
	return err
}

// adoptToken makes a token that was made past the gateway a team's.
func (c *call) adoptToken() error {
	var body struct {
		ID   string `json:"id"`
		Team string `json:"team"`
		Note string `json:"note"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	g, err := c.keeper()
	if err != nil {
		return err
	}
	team, err := c.configuredTeam(body.Team)
	if err != nil {
		return err
	}
	switch {
	case !scopes.IsUUID(body.ID):
		return badRequest("id", "expected the UUID of a token")
	case g.isMaster(body.ID):
		return &problemError{Kind: kindRefused, Field: "id", Detail: "that is the master token, which is nobody's"}
	}
	id := strings.ToLower(body.ID)
	var t store.Token
	err = c.recorded(g, audit.Record{Change: changeTokenAdopt, Team: team.Name, TokenID: id, Note: body.Note}, func(ctx context.Context, by string) error {
		seen, err := g.lookAt(ctx, ledger.Call{ID: id, Team: team.Name, Cause: "to be adopted by " + team.Name})
		if errors.Is(err, ledger.ErrNone) {
			return &problemError{Kind: kindUnknownToken, Field: "id", Detail: "GoodAccess has no such token"}
		}
		if err != nil {
			return err
		}
		if t, err = g.adoptable(team, seen); err != nil {
			return err
		}
		t.ID, t.CreatedBy, t.Cause = id, by, body.Note
		t, err = g.room.ledger.Adopt(ctx, t, g.rules.quota[team.Name])
		return err
	})
	switch {
	case errors.Is(err, store.ErrExists):
		return &problemError{Kind: kindExists, Field: "id", Detail: "the ledger has it already, or another token with its stamp: see `scopegate token show`"}
	case errors.Is(err, store.ErrFull):
		return &problemError{Kind: kindFull, Field: "team", Detail: "the team has as many live tokens as its max_live"}
	case err != nil:
		return err
	}
	return c.reply(http.StatusCreated, viewToken(t))
}

// adoptable is the row of a token that its team could have made itself. That is
// judged as a mint is, so that adoption is no way around a grant.
func (g *Gateway) adoptable(team *policy.Team, seen tokens.Seen) (store.Token, error) {
	wide := func(text string) error {
		return &problemError{Kind: kindRefused, Field: "id", Detail: "it cannot be adopted: " + text}
	}
	if team.Mint == nil {
		return store.Token{}, wide("the team may not make tokens")
	}
	if silent := tokens.NotShown(seen); len(silent) > 0 {
		return store.Token{}, wide("GoodAccess does not show its " + strings.Join(silent, ", ") + ", so that it may be anything")
	}
	unclamped, grant := *team, *team.Mint
	grant.Clamp, unclamped.Mint = false, &grant
	body, err := json.Marshal(map[string]any{
		"name": "adopted", "expires_at": seen.ExpiresAt, "allowed_ips": seen.AllowedIPs, "allowed_scopes": seen.Scopes,
	})
	if err != nil {
		return store.Token{}, err
	}
	mint, no := tokens.Shape(body, &policy.Identity{Team: &unclamped, Scopes: team.Scopes}, tokens.Rules{Zone: g.rules.zone}, time.Now())
	if no != nil {
		return store.Token{}, wide(no.Error())
	}
	nonce := tokens.NewNonce()
	if stamp, genuine := g.stamper.Read(seen.Name); genuine {
		nonce = stamp.Nonce
	}
	return store.Token{
		Nonce: nonce, Team: team.Name, Name: seen.Name, Scopes: mint.Scopes.Names(), AllowedIPs: seen.AllowedIPs,
		ExpiresAt: seen.ExpiresAt, Expires: mint.Expires,
	}, nil
}

func (c *call) configuredTeam(name string) (*policy.Team, error) {
	rules := c.office.compiled()
	for _, t := range rules.teams {
		if t.Name == name {
			return t, nil
		}
	}
	p := missing(kindUnknownTeam, "there is no team %s", name, rules.teamNames())
	p.Field = "team"
	return nil, p
}

// revokeTokens has all tokens of one credential deleted.
func (c *call) revokeTokens() error {
	var body struct {
		Credential string `json:"credential"`
		Note       string `json:"note"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if body.Credential == "" || !isShown(body.Credential) {
		return badRequest("credential", "expected the id of a credential")
	}
	return c.owe(audit.Record{Change: changeTokenRevoke, Credential: body.Credential, Note: body.Note}, func(ctx context.Context, g *Gateway, by string) (int, error) {
		return g.room.ledger.Cascade(ctx, body.Credential, cmp.Or(body.Note, "revoked by "+by))
	})
}

// drainTeam has all tokens of a team deleted, also of one that is gone from the
// configuration: that alone deletes nothing, since a typo must not.
func (c *call) drainTeam() error {
	var body struct {
		Note string `json:"note"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	name := c.r.PathValue("team")
	if err := c.knownTeam("", name); err != nil {
		return err
	}
	return c.owe(audit.Record{Change: changeTeamDrain, Team: name, Note: body.Note}, func(ctx context.Context, g *Gateway, by string) (int, error) {
		return g.room.ledger.Drain(ctx, name, cmp.Or(body.Note, "its team was drained by "+by))
	})
}

func (c *call) owe(rec audit.Record, do func(context.Context, *Gateway, string) (int, error)) error {
	g, err := c.keeper()
	if err != nil {
		return err
	}
	var owed int
	err = c.recorded(g, rec, func(ctx context.Context, by string) error {
		owed, err = do(ctx, g, by)
		return err
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]int{"owed": owed})
}

func (c *call) tokenCounts() (counts []store.TokenCount, err error) {
	err = c.office.ledgerRows(func(r rows) error {
		counts, err = r.TokenCounts(c.r.Context(), "")
		return err
	})
	return counts, err
}

// drainable is a team that is gone from the configuration, whose tokens live
// on until somebody says what is to become of them.
type drainable struct {
	Team string `json:"team"`
	Live int    `json:"live"`
}

// listDebt shows what is owed or not known, and what awaits a drain.
func (c *call) listDebt() error {
	f, err := c.tokenFilter()
	if err != nil {
		return err
	}
	if f.States == nil {
		f.States = []string{ledger.Revoking, ledger.Unknown}
	}
	page, err := c.tokens(f)
	if err != nil {
		return err
	}
	counts, err := c.tokenCounts()
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]any{
		"tokens": page.Tokens, "next": page.Next, "awaiting_drain": c.office.compiled().drainables(counts),
	})
}

func (c *compiled) drainables(counts []store.TokenCount) []drainable {
	known, gone := c.byName(), map[string]int{}
	for _, n := range counts {
		if known[n.Team] == nil && n.State == ledger.Live {
			gone[n.Team] += n.N
		}
	}
	list := []drainable{}
	for team, live := range gone {
		list = append(list, drainable{team, live})
	}
	slices.SortFunc(list, func(a, b drainable) int { return cmp.Compare(a.Team, b.Team) })
	return list
}

// findingView is what a reconciliation found of one token.
type findingView struct {
	Finding string `json:"finding"`
	ID      string `json:"id"`
	Nonce   string `json:"nonce,omitempty"`
	Team    string `json:"team,omitempty"`
	Name    string `json:"name,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

type reconciliationView struct {
	Started  time.Time      `json:"started_at"`
	Seconds  float64        `json:"seconds"`
	DryRun   bool           `json:"dry_run"`
	Stopped  string         `json:"stopped,omitempty"`
	Counts   map[string]int `json:"counts"`
	Findings []findingView  `json:"findings"`
}

// reconcile holds the ledger against GoodAccess's list now.
func (c *call) reconcile() error {
	var body struct {
		DryRun       bool `json:"dry_run"`
		MaxDeletions int  `json:"max_deletions"`
		AfterRestore bool `json:"after_restore"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if body.MaxDeletions < 0 {
		return badRequest("max_deletions", "it must not be below zero")
	}
	g, err := c.keeper()
	if err != nil {
		return err
	}
	var report *ledger.Report
	err = c.recorded(g, audit.Record{Change: changeReconcile}, func(context.Context, string) error {
		// For as long as it takes: whoever asked may hang up and so end it.
		report, err = g.room.ledger.Reconcile(c.r.Context(), ledger.Reconciliation{
			Dry: body.DryRun, MaxDeletions: body.MaxDeletions, AfterRestore: body.AfterRestore,
			Progress: func(listed int) { g.logger.Info("reconciling", zap.Int("listed", listed)) },
		})
		return err
	})
	if errors.Is(err, ledger.ErrBusy) {
		return &problemError{Kind: kindBusy, Detail: err.Error() + "; try again when it has ended"}
	}
	if err != nil {
		return err
	}
	v := reconciliationView{
		Started: report.Started, Seconds: report.Took.Seconds(), DryRun: report.Dry, Stopped: report.Stopped,
		Counts: report.Counts, Findings: []findingView{},
	}
	for _, f := range report.List {
		v.Findings = append(v.Findings, findingView{f.Kind, f.ID, f.Nonce, f.Team, f.Name, f.Detail})
	}
	return c.reply(http.StatusOK, v)
}

func (g *Gateway) cascade(ctx context.Context, credential, cause string) (int, error) {
	return g.room.ledger.Cascade(ctx, credential, cause)
}

// cascade marks the tokens; the queue of a gateway that runs deletes them.
func (s *stockroom) cascade(ctx context.Context, credential, cause string) (int, error) {
	return s.rows.MoveTokens(ctx, store.TokenFilter{Credential: credential}, ledger.Live, ledger.Revoking, cause)
}

// ledgerRows asks the store about the ledger.
func (g *Gateway) ledgerRows(do func(rows) error) error {
	if g.room == nil {
		return errNoStore
	}
	if !g.inside.enter() {
		return errRetired
	}
	defer g.inside.leave()
	return do(g.room.rows)
}

func (s *stockroom) ledgerRows(do func(rows) error) error { return do(s.rows) }
