// Package tokens knows the bodies of the token API. It decides what a request
// for a new upstream token may say, and builds the body that is sent in its
// place: strictly read, no wider than the caller's grant, encoded anew. It
// rebuilds the token objects of upstream's answers from an allow-list.
//
// It never sends anything, never holds a secret, and never knows whose an
// upstream token is.
//
// GoodAccess documents neither what an absent field of a mint means nor the
// zone of its expiry, and nothing says that a token cannot make a wider one.
// So this package takes the dangerous answer for every open question: a field
// that narrows must be there, and must narrow.
package tokens

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/strictjson"
)

// MaxBody is the size of the largest body of a mint, in bytes.
const MaxBody = 64 << 10

// The fields of a mint, in the order in which the vendor documents them and
// in which they are sent.
const (
	fieldName      = "name"
	fieldExpiresAt = "expires_at"
	fieldIPs       = "allowed_ips"
	fieldScopes    = "allowed_scopes"
)

// Rules is what the gateway knows about upstream.
type Rules struct {
	// Zone is the zone in which upstream reads expires_at. Nil is unknown:
	// then every bound is judged in the zone that suits the caller least.
	Zone *time.Location

	// MaxName is the length of the longest name of a token, in characters,
	// with its stamp. Default: DefaultMaxName.
	MaxName int
}

// DefaultMaxName is the length of the longest name that upstream is sent, in
// characters. How long a name may be there is not documented. One that is cut
// off loses its stamp, which the proof of a mint finds out.
const DefaultMaxName = 128

// MinMaxName leaves room for a short name before the stamp.
const MinMaxName = StampLength + 8

// maxName is the length of the longest name that a caller may give.
func (r Rules) maxName() int {
	if r.MaxName == 0 {
		return DefaultMaxName - StampLength
	}
	return r.MaxName - StampLength
}

// CheckRules tells whether mints that live for maxTTL can be bounded at all.
// Without a zone a day of slack is lost to the zones that upstream may be in.
func CheckRules(maxTTL time.Duration, zone *time.Location) error {
	switch {
	case maxTTL <= 0:
		return errors.New("max_ttl must be positive")
	case zone == nil && maxTTL < 24*time.Hour:
		return fmt.Errorf("max_ttl %s is under 24h, which cannot be held without knowing the zone of upstream's expires_at: set expires_zone", maxTTL)
	}
	return nil
}

// Mint is a request for a new upstream token, within its caller's grant.
type Mint struct {
	Name   string // as the caller gave it
	Sent   string // the name with its stamp; "" while it has none
	Scopes scopes.Set

	// ExpiresAt is the expiry as it is sent, and Expires the latest instant
	// that upstream may take it for.
	ExpiresAt string
	Expires   time.Time

	// AllowedIPs holds addresses and CIDRs in their canonical form.
	AllowedIPs []string

	// Requested are the scopes that were asked for, for the record.
	Requested scopes.Set
	// Clamped names the fields that were narrowed.
	Clamped []string
}

// sent is the name that upstream is sent.
func (m *Mint) sent() string { return cmp.Or(m.Sent, m.Name) }

// Body encodes the mint for upstream.
func (m *Mint) Body() []byte {
	b := append(make([]byte, 0, 512), `{"`+fieldName+`":`...)
	b = strictjson.AppendString(b, m.sent())
	b = append(b, `,"`+fieldExpiresAt+`":`...)
	b = strictjson.AppendString(b, m.ExpiresAt)
	b = append(b, `,"`+fieldIPs+`":`...)
	b = appendStrings(b, m.AllowedIPs)
	b = append(b, `,"`+fieldScopes+`":`...)
	b = appendStrings(b, m.Scopes.Names())
	return append(b, '}')
}

func appendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = strictjson.AppendString(b, s)
	}
	return append(b, ']')
}

// Refusal says why a body was refused.
type Refusal struct { //nolint:errname // it is an outcome first, and an error only to be printed
	Reason policy.Reason
	// Field is the field at fault, such as allowed_scopes[2]; empty where it
	// is the body as a whole.
	Field string
	// Detail tells the caller what to mend. It is short and safe to show: of
	// what the caller sent it holds no more than scopes and addresses that
	// were recognised, since any other text may be a misplaced secret.
	Detail string
	// Requested are the scopes that were asked for, as far as they were read.
	Requested scopes.Set
}

func (r *Refusal) Error() string {
	if r.Field == "" {
		return r.Detail
	}
	return r.Field + ": " + r.Detail
}

// Shape reads the body of a mint and returns what may be sent in its place,
// or why nothing may. The same body, identity and time always come to the
// same end.
func Shape(body []byte, id *policy.Identity, r Rules, now time.Time) (*Mint, *Refusal) {
	if id.Team.Mint == nil {
		return nil, &Refusal{Reason: policy.MintNotGranted, Detail: "this team may not make tokens"}
	}
	if len(body) > MaxBody {
		return nil, &Refusal{Reason: policy.BodyTooLarge, Detail: fmt.Sprintf("a mint may take %d bytes", MaxBody)}
	}
	value, err := strictjson.Parse(body)
	if err != nil {
		return nil, &Refusal{Reason: policy.MalformedBody, Detail: err.Error()}
	}
	if k := value.Kind(); k != strictjson.Object {
		return nil, &Refusal{Reason: policy.MalformedBody, Detail: "expected a JSON object, not " + k.String()}
	}
	asked, refusal := readRequest(value, r)
	if refusal == nil {
		var m *Mint
		if m, refusal = grantOf(id, r, now).attenuate(asked); refusal == nil {
			return m, nil
		}
	}
	refusal.Requested = asked.scopes
	return nil, refusal
}

// attenuate holds a request against the grant. Each step admits, narrows if
// the grant says so, or refuses.
func (g *grant) attenuate(asked request) (*Mint, *Refusal) {
	m := &Mint{Name: asked.name, Requested: asked.scopes}
	narrowed := func(field string, was bool) {
		if was {
			m.Clamped = append(m.Clamped, field)
		}
	}

	granted, was, refusal := g.narrowScopes(asked.scopes)
	if refusal != nil {
		return nil, refusal
	}
	m.Scopes = granted
	narrowed(fieldScopes, was)

	expires, was, refusal := g.narrowExpiry(asked.expires)
	if refusal != nil {
		return nil, refusal
	}
	m.ExpiresAt, m.Expires = expires.text, expires.latest
	narrowed(fieldExpiresAt, was)

	ips, was, refusal := g.narrowAddresses(asked.ips)
	if refusal != nil {
		return nil, refusal
	}
	for _, p := range ips {
		m.AllowedIPs = append(m.AllowedIPs, addressText(p))
	}
	narrowed(fieldIPs, was)
	return m, nil
}

// request is a mint as its caller asked for it: well-formed, not yet judged.
type request struct {
	name    string
	scopes  scopes.Set
	expires moment
	ips     []netip.Prefix
}

// grant is what one caller may ask for at one instant.
type grant struct {
	scopes    scopes.Set
	addresses []netip.Prefix
	anyIP     bool
	clamp     bool
	zone      *time.Location
	now       time.Time
	until     time.Time // the end of the longest-lived token
}

func grantOf(id *policy.Identity, r Rules, now time.Time) *grant {
	mint := id.Team.Mint
	g := &grant{
		scopes: id.Mintable(), addresses: make([]netip.Prefix, 0, len(mint.AllowedIPs)),
		anyIP: mint.AnyIP, clamp: mint.Clamp,
		zone: r.Zone, now: now, until: now.Add(mint.MaxTTL),
	}
	for _, p := range mint.AllowedIPs {
		g.addresses = append(g.addresses, unmapped(p).Masked())
	}
	if !id.Expires.IsZero() && id.Expires.Before(g.until) {
		g.until = id.Expires
	}
	return g
}
