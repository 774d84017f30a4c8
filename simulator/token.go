package simulator

import (
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scopegate/scopegate/scopes"
)

// token is one token of the account.
type token struct {
	id, name, secret string
	createdAt        time.Time
	expires          time.Time      // zero: never
	ips              []netip.Prefix // empty: from everywhere
	ipTexts          []string       // the same, as they were given
	scopes           scopes.Set
}

// tokens are all tokens of the account.
type tokens struct {
	all      []*token // oldest first
	bySecret map[string]*token
	master   *token
	fields   []string // what reads show
	zone     *time.Location
}

var tokenFields = []string{"id", "name", "created_at", "expires_at", "allowed_ips", "allowed_scopes"}

// secretField is the name under which a new token's secret is answered. The
// API has one; its name is a guess.
const secretField = "token"

func newTokens(o Options, now time.Time) tokens {
	fields := o.TokenFields
	if fields == nil {
		fields = tokenFields
	}
	for _, name := range fields {
		if name != secretField && !slices.Contains(tokenFields, name) {
			panic("simulator: tokens have no field " + strconv.Quote(name))
		}
	}
	t := tokens{
		bySecret: map[string]*token{}, fields: slices.Clone(fields), zone: o.Zone,
		master: &token{id: newUUID(), name: "master", secret: o.MasterToken, createdAt: now, scopes: scopes.All()},
	}
	t.add(t.master)
	return t
}

func (t *tokens) add(one *token) {
	t.all = append(t.all, one)
	t.bySecret[one.secret] = one
}

func (t *tokens) drop(one *token) {
	t.all = slices.DeleteFunc(t.all, func(have *token) bool { return have == one })
	delete(t.bySecret, one.secret)
}

func (t *tokens) find(id string) *token {
	for _, one := range t.all {
		if strings.EqualFold(one.id, id) {
			return one
		}
	}
	return nil
}

// renewMaster also brings back a master that was revoked.
func (t *tokens) renewMaster(secret string) {
	t.drop(t.master)
	t.master.secret, t.master.expires = secret, time.Time{}
	t.add(t.master)
}

// authorize finds the token of a request and holds it to its limits. Whether
// the API answers 401 and 403 in these cases is not documented.
func (t *tokens) authorize(header string, from netip.Addr, op *scopes.Operation, now time.Time) (*token, *reply) {
	scheme, secret, _ := strings.Cut(header, " ")
	one := t.bySecret[strings.TrimSpace(secret)]
	var refusal reply
	switch {
	case !strings.EqualFold(scheme, "Bearer") || one == nil:
		refusal = failed(http.StatusUnauthorized, "unauthorized", "No valid token was given")
	case !one.expires.IsZero() && !now.Before(one.expires):
		refusal = failed(http.StatusUnauthorized, "unauthorized", "The token has expired")
	case !one.worksFrom(from):
		refusal = failed(http.StatusForbidden, "forbidden", "The token may not be used from this address")
	case !op.PermittedBy(one.scopes):
		refusal = failed(http.StatusForbidden, "forbidden", "The token lacks the scope "+op.ScopeName())
	default:
		return one, nil
	}
	return nil, &refusal
}

func (one *token) worksFrom(from netip.Addr) bool {
	return len(one.ips) == 0 ||
		slices.ContainsFunc(one.ips, func(p netip.Prefix) bool { return p.Contains(from) })
}

// clientAddr returns the address that a request is taken to come from; it is
// invalid, and in no list, where none can be read.
func clientAddr(r *http.Request) netip.Addr {
	text, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ",")
	if text = strings.TrimSpace(text); text == "" {
		text, _, _ = net.SplitHostPort(r.RemoteAddr)
	}
	addr, _ := netip.ParseAddr(text)
	return addr.Unmap().WithZone("")
}

func (t *tokens) list(*call) reply {
	values := make([]any, 0, len(t.all))
	for _, one := range t.all {
		values = append(values, t.show(one))
	}
	return listOf(values)
}

func (t *tokens) read(c *call) reply {
	one := t.find(c.ids[0])
	if one == nil {
		return notFound("Token")
	}
	return object(t.show(one))
}

func (t *tokens) remove(c *call) reply {
	one := t.find(c.ids[0])
	if one == nil {
		return notFound("Token")
	}
	t.drop(one)
	return said("Token revoked")
}

func (t *tokens) show(one *token) any {
	shown := map[string]any{}
	for _, field := range t.fields {
		switch field {
		case "id":
			shown[field] = one.id
		case "name":
			shown[field] = one.name
		case "created_at":
			shown[field] = one.createdAt.Format(time.DateTime)
		case "expires_at":
			shown[field] = nil
			if !one.expires.IsZero() {
				shown[field] = one.expires.In(t.zone).Format(time.DateTime)
			}
		case "allowed_ips":
			shown[field] = one.ipTexts
		case "allowed_scopes":
			shown[field] = one.scopes.Names()
		case secretField:
			if one != t.master {
				shown[field] = one.secret
			}
		}
	}
	return shown
}

func (t *tokens) create(c *call) reply {
	var ask struct {
		Name          string   `json:"name"`
		ExpiresAt     string   `json:"expires_at"`
		AllowedIPs    []string `json:"allowed_ips"`
		AllowedScopes []string `json:"allowed_scopes"`
	}
	if err := decode(c.body, &ask); err != nil {
		return invalid(err.Error())
	}
	made := &token{id: newUUID(), name: ask.Name, secret: newSecret(), createdAt: c.now, ipTexts: []string{}}
	for _, name := range ask.AllowedScopes {
		scope, err := scopes.Parse(name)
		if err != nil {
			return invalid("allowed_scopes holds an unknown scope")
		}
		made.scopes = made.scopes.Union(scopes.Of(scope))
	}
	if made.scopes.Empty() {
		made.scopes = scopes.All()
	}
	for _, text := range ask.AllowedIPs {
		prefix, ok := parsePrefix(text)
		if !ok {
			return invalid("allowed_ips holds something that is no address")
		}
		made.ips = append(made.ips, prefix)
		made.ipTexts = append(made.ipTexts, text)
	}
	if ask.ExpiresAt != "" {
		var ok bool
		if made.expires, ok = parseTime(ask.ExpiresAt, t.zone); !ok {
			return invalid("expires_at is not of the form Y-m-d H:i:s")
		}
	}
	t.add(made)
	return object(map[string]any{
		"created_id": made.id, "message": "Token created successfully", secretField: made.secret,
	})
}

// parsePrefix reads an address or a CIDR. Bits behind the prefix are cut off,
// and an IPv4 address in IPv6 form is taken for what it means.
func parsePrefix(text string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked(), true
}

var timeForm = regexp.MustCompile(`^(\d{4})-(\d\d?)-(\d\d?) (\d\d?):(\d\d?):(\d\d?)$`)

// parseTime reads 'Y-m-d H:i:s'. A field beyond its range carries over into
// the next, as lenient date parsers do.
func parseTime(text string, zone *time.Location) (time.Time, bool) {
	match := timeForm.FindStringSubmatch(text)
	if match == nil {
		return time.Time{}, false
	}
	var n [6]int
	for i := range n {
		n[i], _ = strconv.Atoi(match[i+1]) // digits, by the form
	}
	return time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], 0, zone), true
}

// Token is one of the account's tokens, as somebody who looks into it sees it.
type Token struct{ ID, Name string }

// Tokens lists the account's tokens, the master among them, oldest first.
func (s *Simulator) Tokens() []Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Token, 0, len(s.world.tokens.all))
	for _, one := range s.world.tokens.all {
		list = append(list, Token{one.id, one.name})
	}
	return list
}

// Plant makes a token without a request, as an administrator does in the
// console, and returns its id.
func (s *Simulator) Plant(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := &token{id: newUUID(), name: name, secret: newSecret(), createdAt: s.clock(), ipTexts: []string{}, scopes: scopes.All()}
	s.world.tokens.add(one)
	return one.id
}
