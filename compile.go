package scopegate

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/limits"
	"github.com/scopegate/scopegate/metrics"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/tokens"
)

// defaultMaxTTL is the longest life of a minted token where none is said.
const defaultMaxTTL = 90 * 24 * time.Hour

// compiled is what a configuration means, with every glob expanded and every
// value checked. Making it does no I/O, so `explain` and `validate` see
// exactly what a running gateway would.
type compiled struct {
	teams       []*policy.Team
	credentials []*credential.Credential
	static      *credential.Static
	lives       map[string]credential.Rules // of stored credentials, by team
	locks       map[string]bool             // teams with lock_on_reuse
	mintsADay   map[string]int              // by team
	limits      map[limits.Key]limits.Limit
	quota       map[string]int
	router      *scopes.Router
	added       []*scopes.Operation // to the catalogue
	zone        *time.Location      // nil: unknown, judged least kindly
	maxName     int                 // of a token at upstream; 0: the default
	notes       []string            // what a reader of the configuration may not expect
}

// compile checks the whole configuration and reports every mistake in it, not
// only the first.
func (g *Gateway) compile() (*compiled, error) {
	c := &compiled{
		limits: map[limits.Key]limits.Limit{}, quota: map[string]int{}, mintsADay: map[string]int{},
		lives: map[string]credential.Rules{}, locks: map[string]bool{},
	}
	var errs []error
	fail := func(source, path string, err error) {
		if source != "" {
			path = source + ": " + path
		}
		errs = append(errs, fmt.Errorf("%s: %w", path, err))
	}

	if g.ExpiresZone != "" {
		zone, err := time.LoadLocation(g.ExpiresZone)
		if err != nil || g.ExpiresZone == "Local" {
			// "Local" would make the bound depend on the machine.
			fail("", "expires_zone", fmt.Errorf("unknown time zone %q; expected one such as Europe/Prague or UTC", g.ExpiresZone))
		}
		c.zone = zone
	}

	if n := g.MaxTokenName; n != 0 && n < tokens.MinMaxName {
		fail("", "max_token_name", fmt.Errorf("%d leaves no room for a name: expected %d or more, of which %d are the stamp's", n, tokens.MinMaxName, tokens.StampLength))
	}
	c.maxName = g.MaxTokenName
	if g.StampKey != "" && !onePlaceholder.MatchString(g.StampKey) {
		fail("", "stamp_key", errors.New("expected exactly one {env.NAME} or {file.PATH}: Caddy would show a literal at GET /config/ and save it to disk"))
	}
	if g.Reconcile > 0 && time.Duration(g.Reconcile) < minReconcile {
		fail("", "reconcile", fmt.Errorf("expected %s or more: each run lists all tokens of the account", minReconcile))
	}

	if err := g.Store.validate(); err != nil {
		fail("", "store", err)
	}

	c.added = []*scopes.Operation{whoami}
	for i, o := range g.Operations {
		op, err := scopes.NewOperation(o.Method, o.Path, o.Scope)
		if err != nil {
			fail(o.Source, fmt.Sprintf("operations[%d]", i), err)
			continue
		}
		c.added = append(c.added, op)
	}
	var err error
	if c.router, err = scopes.NewRouter(g.InferredOperations, c.added...); err != nil {
		fail("", "operations", err)
	}

	names := map[string]bool{}
	for i, t := range g.Teams {
		at := fmt.Sprintf("team %q", t.Name)
		switch {
		case !validName(t.Name):
			fail(t.Source, fmt.Sprintf("teams[%d]", i), errName(t.Name))
		case t.Name == metrics.Unidentified:
			fail(t.Source, at, errors.New("metrics call those without a credential so; choose another name"))
		case names[t.Name]:
			fail(t.Source, at, errors.New("stands twice"))
		}
		names[t.Name] = true
		c.team(t, fail)
	}
	if c.static, err = credential.NewStatic(c.credentials); err != nil {
		errs = append(errs, err)
	}
	return c, errors.Join(errs...)
}

type failFunc func(source, path string, err error)

func (c *compiled) team(t *Team, fail failFunc) {
	at := fmt.Sprintf("team %q", t.Name)
	team := &policy.Team{
		Name: t.Name, AllowedIPs: prefixes(t.AllowedIPs), MemberPasswords: t.MemberPasswords, AllTokens: t.AllTokens, ShadowUntil: t.ShadowUntil.At,
		Scopes: c.expand(t.Scopes, at+": scopes", fail),
	}
	if t.Mint != nil {
		team.Mint = c.mint(t, team, fail)
	}
	if !t.ShadowUntil.IsZero() {
		c.notes = append(c.notes, fmt.Sprintf("%s: reads beyond its scopes and limits are permitted until %s (enforce off)", at, t.ShadowUntil.At.Format(time.RFC3339)))
	}
	c.limits[limits.Key{Team: t.Name}] = limit("", t.RateLimit, t.MaxInFlight, t.Source, at, fail)
	each := limit("credential_", t.CredentialRateLimit, t.CredentialMaxInFlight, t.Source, at, fail)
	c.limits[limits.Key{Team: t.Name, Credential: limits.Each}] = each
	c.teams = append(c.teams, team)
	if t.MaxCredentials < 0 || t.MaxCredentialTTL < 0 {
		fail(t.Source, at, errors.New("max_credentials and max_credential_ttl must not be negative"))
	}
	c.lives[t.Name] = credential.Rules{
		Team: team, MaxCredentials: t.MaxCredentials, MaxTTL: time.Duration(t.MaxCredentialTTL),
	}
	c.locks[t.Name] = t.LockOnReuse

	names := map[string]bool{}
	for i, cr := range t.Credentials {
		where := fmt.Sprintf("%s: credential %q", at, cr.Name)
		switch {
		case !validName(cr.Name):
			fail(cr.Source, fmt.Sprintf("%s: credentials[%d]", at, i), errName(cr.Name))
		case names[cr.Name]:
			fail(cr.Source, where, errors.New("stands twice"))
		}
		names[cr.Name] = true
		c.credential(cr, team, where, fail)
	}
}

func (c *compiled) mint(t *Team, team *policy.Team, fail failFunc) *policy.MintGrant {
	m, at := t.Mint, fmt.Sprintf("team %q: mint", t.Name)
	grant := &policy.MintGrant{
		AllowedIPs: prefixes(m.AllowedIPs), AnyIP: m.AnyIP,
		MaxTTL: time.Duration(m.MaxTTL), MaxLive: m.MaxLive, Clamp: m.Clamp,
	}
	for _, g := range m.Scopes {
		e, err := scopes.Expand(g.Scope)
		if err != nil {
			fail(g.Source, at+": scopes", err)
			continue
		}
		granted := e.Set
		if isGlob(e.Pattern) {
			granted = granted.Minus(scopes.TokenScopes())
		}
		if token := granted.Intersect(scopes.TokenScopes()); !token.Empty() {
			fail(g.Source, at+": scopes", fmt.Errorf("%s: a minted token never carries a token.* scope, since it would work at GoodAccess directly and may equal the master; remove it", token))
			continue
		}
		if excess := granted.Minus(team.Scopes); !excess.Empty() {
			fail(g.Source, at+": scopes", fmt.Errorf("%s: the team does not hold %s itself; add it to the team's scopes or remove it here", g.Scope, excess))
		}
		c.note(e, g.Source)
		grant.Scopes = grant.Scopes.Union(granted)
	}
	if grant.Scopes.Empty() {
		fail(m.Source, at, errors.New("no scopes: say which scopes a minted token may carry"))
	}
	switch {
	case grant.AnyIP && len(grant.AllowedIPs) > 0:
		fail(m.Source, at, errors.New("allowed_ips: `any` stands beside networks; keep one of the two"))
	case !grant.AnyIP && len(grant.AllowedIPs) == 0:
		fail(m.Source, at, errors.New("no allowed_ips: say which networks a minted token must be bound to, or `any`"))
	}
	if grant.MaxTTL == 0 {
		grant.MaxTTL = defaultMaxTTL
	}
	if grant.MaxLive < 0 {
		fail(m.Source, at, errors.New("max_live must not be negative"))
	}
	if err := tokens.CheckRules(grant.MaxTTL, c.zone); err != nil {
		fail(m.Source, at, err)
	}
	if grant.MaxLive > 0 {
		c.quota[t.Name] = grant.MaxLive
	}
	if m.Quota < 0 {
		fail(m.Source, at, errors.New("mint_quota must not be negative"))
	}
	if m.Quota > 0 {
		c.mintsADay[t.Name] = m.Quota
	}
	return grant
}

func (c *compiled) credential(cr *Credential, team *policy.Team, at string, fail failFunc) {
	state := credential.Active
	if cr.State != "" {
		var err error
		if state, err = credential.ParseState(cr.State); err != nil {
			fail(cr.Source, at, err)
		}
	}
	if len(cr.Hashes) == 0 {
		fail(cr.Source, at, errors.New("no hash: make a key with `scopegate key generate` and put its hash line here"))
		return
	}
	if len(cr.Hashes) > credential.MaxVerifiers {
		fail(cr.Source, at, fmt.Errorf("%d hash lines: a credential has one, and two while its key is exchanged", len(cr.Hashes)))
		return
	}
	held := team.Scopes
	if len(cr.Scopes) > 0 {
		held = scopes.Set{}
		for _, g := range cr.Scopes {
			e, err := scopes.Expand(g.Scope)
			if err != nil {
				fail(g.Source, at+": scopes", err)
				continue
			}
			if !isGlob(g.Scope) && !team.Scopes.Contains(e.Set) {
				fail(g.Source, at+": scopes", fmt.Errorf("the team does not hold %s; a credential can only narrow its team", g.Scope))
			}
			c.note(e, g.Source)
			held = held.Union(e.Set)
		}
		held = held.Intersect(team.Scopes)
	}
	if !cr.Expires.IsZero() && !cr.Expires.At.After(cr.NotBefore.At) {
		fail(cr.Source, at, errors.New("expires is not after not_before"))
	}
	c.credentials = append(c.credentials, &credential.Credential{
		Identity: policy.Identity{
			Team: team, Name: cr.Name, Scopes: held,
			AllowedIPs: prefixes(cr.AllowedIPs), Expires: cr.Expires.At,
		},
		Verifiers: cr.Hashes, State: state, NotBefore: cr.NotBefore.At, Expires: cr.Expires.At,
	})
	own := limit("", cr.RateLimit, cr.MaxInFlight, cr.Source, at, fail)
	each := c.limits[limits.Key{Team: team.Name, Credential: limits.Each}]
	c.limits[limits.Key{Team: team.Name, Credential: cr.Name}] = limits.Limit{
		Rate: cmp.Or(own.Rate, each.Rate), MaxInFlight: cmp.Or(own.MaxInFlight, each.MaxInFlight),
	}
}

func (c *compiled) expand(list Grants, at string, fail failFunc) scopes.Set {
	var set scopes.Set
	for _, g := range list {
		e, err := scopes.Expand(g.Scope)
		if err != nil {
			fail(g.Source, at, err)
			continue
		}
		c.note(e, g.Source)
		set = set.Union(e.Set)
	}
	return set
}

func (c *compiled) note(e scopes.Expansion, source string) {
	for _, n := range e.Notes() {
		if source != "" {
			n = source + ": " + n
		}
		c.notes = append(c.notes, n)
	}
}

// limit reads a limit, whose options have this prefix.
func limit(prefix string, r *RateLimit, inFlight int, source, at string, fail failFunc) limits.Limit {
	if inFlight < 0 {
		fail(source, at, fmt.Errorf("%smax_in_flight must not be negative", prefix))
	}
	l := limits.Limit{MaxInFlight: inFlight}
	switch {
	case r == nil:
	case r.N <= 0 || r.Window <= 0 || r.Burst < 0:
		fail(source, at, fmt.Errorf("%srate_limit: expected `<requests> <window> [<burst>]`, each above zero, such as 120 1m", prefix))
	default:
		l.Rate = &limits.Rate{N: r.N, Per: time.Duration(r.Window), Burst: r.Burst}
	}
	return l
}

// validName keeps names fit for labels, records and paths.
func validName(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for _, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_', r == '.':
		default:
			return false
		}
	}
	return true
}

func errName(name string) error {
	return fmt.Errorf("name %q: expected 1 to 64 letters, digits, hyphens, dots or underscores", name)
}

// limitView tells a caller of the bounds that are set on it.
func (c *compiled) limitView(team, credential string) limitView {
	l := c.limits[limits.Key{Team: team, Credential: credential}]
	v := limitView{MaxInFlight: l.MaxInFlight}
	if l.Rate != nil {
		v.Requests, v.Window, v.Burst = l.Rate.N, l.Rate.Per.String(), max(l.Rate.Burst, 0)
		if v.Burst == 0 {
			v.Burst = v.Requests
		}
	}
	return v
}
