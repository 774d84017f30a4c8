package scopegate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/credential"
)

// Team is a named group of callers: what they may do, from where, how much
// of it, and with which credentials.
type Team struct {
	// The name stands in audit records, metrics and answers.
	Name string `json:"name"`

	// The scopes that the team's callers hold: names or globs such as
	// `members.*`. A `*` stands for whole words and never grants
	// admin-logs.read, which must be named.
	Scopes Grants `json:"scopes,omitempty"`

	// What tokens the team may make at GoodAccess. Absent: none.
	Mint *Mint `json:"mint,omitempty"`

	// The networks that callers must come from, as Caddy's trusted client
	// address. Default: anywhere.
	AllowedIPs []Network `json:"allowed_ips,omitempty"`

	// Bounds of the whole team, all credentials together.
	RateLimit   *RateLimit `json:"rate_limit,omitempty"`
	MaxInFlight int        `json:"max_in_flight,omitempty"`

	// Bounds of each credential of the team, within the team's, unless a static
	// one has its own. A stored credential is counted by its id: a new key
	// brings it no fresh allowance. Default: the team's bounds alone.
	CredentialRateLimit   *RateLimit `json:"credential_rate_limit,omitempty"`
	CredentialMaxInFlight int        `json:"credential_max_in_flight,omitempty"`

	// Lets a change of a member set a password. An administrator's password
	// is full control over the account, so members.update alone does not.
	MemberPasswords bool `json:"member_passwords,omitempty"`

	// Bounds of what can be made of the team's stored credentials: how many
	// may live at once, and the longest life of one, which is also the life of
	// one that is made without an end. Default: no bound.
	MaxCredentials   int            `json:"max_credentials,omitempty"`
	MaxCredentialTTL caddy.Duration `json:"max_credential_ttl,omitempty"`

	// Until then documented reads beyond the team's scopes and limits are
	// permitted, recorded as would_deny and counted, so that a grant can be
	// found out before it is enforced. Everything else is enforced all along.
	// Default: never.
	ShadowUntil Date `json:"shadow_until,omitzero"`

	// Shows the team's callers every token of the account, where their scopes
	// let them list or read tokens. They delete no token but their own.
	AllTokens bool `json:"all_tokens,omitempty"`

	// Suspends a stored credential when a key of it that was replaced is used
	// again: whoever holds it may be a thief, or a machine that was forgotten.
	LockOnReuse bool `json:"lock_on_reuse,omitempty"`

	// The team's static credentials. Only a digest of each key stands here.
	Credentials []*Credential `json:"credentials,omitempty"`

	// Where in the Caddyfile the team stands (file:line).
	Source string `json:"source,omitempty"`
}

// Mint bounds the tokens that a team may make at GoodAccess. Such a token
// works there directly, past this gateway, so each bound here is final.
type Mint struct {
	// What a minted token may carry: a subset of the team's own scopes,
	// never a `token.*` scope.
	Scopes Grants `json:"scopes,omitempty"`

	// The networks that a minted token must be bound to. AnyIP, written
	// `any` in the Caddyfile, is the only way to lift it.
	AllowedIPs []Network `json:"allowed_ips,omitempty"`
	AnyIP      bool      `json:"any_ip,omitempty"`

	// The longest life of a minted token. Default: 90d.
	MaxTTL caddy.Duration `json:"max_ttl,omitempty"`

	// How many tokens the team may have alive at once, those of lost replies
	// and those whose deletion is owed among them: exact over all replicas.
	// Default: no bound.
	MaxLive int `json:"max_live,omitempty"`

	// How many tokens the team may make in a day of UTC, by the store's
	// clock: exact over all replicas. Default: no bound.
	Quota int `json:"quota,omitempty"`

	// Narrows a request that asks for too much instead of refusing it, and
	// says so in the answer's Scopegate-Clamped header.
	Clamp bool `json:"clamp,omitempty"`

	// Where in the Caddyfile the block stands (file:line).
	Source string `json:"source,omitempty"`
}

// Credential is a static credential of a team. It can only narrow what the
// team may do.
type Credential struct {
	// The name stands beside the id in records and answers.
	Name string `json:"name"`

	// `<id>:<sha256>` of a key, as `scopegate key generate` prints it. Not a
	// secret. Two while a key is being exchanged for another.
	Hashes []credential.Verifier `json:"hashes,omitempty"`

	// active (default), suspended or revoked.
	State string `json:"state,omitempty"`

	// From when and until when the credential works: a time in RFC 3339, or a
	// date, which is its first moment in UTC. Default: always.
	NotBefore Date `json:"not_before,omitzero"`
	Expires   Date `json:"expires,omitzero"`

	// A subset of the team's scopes. Default: all of them.
	Scopes Grants `json:"scopes,omitempty"`

	// Networks that callers must come from, besides the team's.
	AllowedIPs []Network `json:"allowed_ips,omitempty"`

	// Bounds of this credential, within the team's. Default: what the team says
	// of each credential.
	RateLimit   *RateLimit `json:"rate_limit,omitempty"`
	MaxInFlight int        `json:"max_in_flight,omitempty"`

	// Where in the Caddyfile the block stands (file:line).
	Source string `json:"source,omitempty"`
}

// Store says where the credentials are kept that are made, rotated and revoked
// while the gateway runs.
type Store struct {
	// sqlite (default) keeps them in a file, for one machine; postgres in a
	// database that the replicas of a fleet share; none keeps none: then the
	// static credentials are all there are, and no token can be made.
	Driver string `json:"driver,omitempty"`

	// The file of sqlite. Default: scopegate/<gateway>/store.db in Caddy's
	// data directory.
	Path string `json:"path,omitempty"`

	// Where the address of postgres is found, exactly one {env.NAME} or
	// {file.PATH}: it holds a password. A URL or `key=value` words, as libpq
	// reads them.
	Address string `json:"address,omitempty"`

	// Polls alone and listens to no notification, for a pooler that cannot
	// carry LISTEN, such as PgBouncer in transaction mode. A change is then
	// seen within a second instead of at once.
	Poll bool `json:"poll,omitempty"`

	// How long known credentials go on when the store cannot be reached,
	// counted from the last time that it could be. Default: 60s.
	Grace caddy.Duration `json:"grace,omitempty"`
}

// Operation is an operation of the API that the operator knows of and the
// catalogue does not, or knows only by inference.
type Operation struct {
	Method string `json:"method"`
	// The path with its ids in braces, such as /api/v1/device/{deviceId}.
	Path string `json:"path"`
	// The documented scope that the operation needs.
	Scope  string `json:"scope"`
	Source string `json:"source,omitempty"`
}

// Audit says where the audit log goes.
type Audit struct {
	// The durable log: Caddy's file writer. Rolled files are kept until you
	// delete them, unless the writer itself says roll_keep or roll_keep_for.
	// Default: scopegate/<gateway>/audit.jsonl in Caddy's data directory.
	WriterRaw json.RawMessage `json:"writer,omitempty" caddy:"namespace=caddy.logging.writers inline_key=output"`

	// Copies, by any of Caddy's log writers: best effort, never waited for.
	MirrorsRaw []json.RawMessage `json:"mirrors,omitempty" caddy:"namespace=caddy.logging.writers inline_key=output"`

	// Which records must be on the disk before a request goes on: changes
	// (default), those of all that changes something, or full, all.
	Durability audit.Durability `json:"durability,omitempty"`

	// How much of the log no signature covers yet, at most.
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`

	// Where the log's key is found, exactly one {env.NAME} or {file.PATH}.
	// Default: a file in Caddy's data directory, which is made once.
	Key string `json:"key,omitempty"`

	// Where the log's signatures are kept besides, so that the log cannot be
	// changed without changing those, too.
	Anchors []*Anchor `json:"anchors,omitempty"`
}

// Checkpoint says how often the audit log is signed.
type Checkpoint struct {
	// After so many lines. Default: 1000.
	Records int `json:"records,omitempty"`
	// And as often, while there are new ones. Default: 10s.
	Every caddy.Duration `json:"every,omitempty"`
}

// Grants is a list of scope names and globs.
type Grants []Grant

// Grant is one name or glob and where it stands. In JSON a plain string will
// do.
type Grant struct {
	Scope  string `json:"scope"`
	Source string `json:"source,omitempty"`
}

// UnmarshalJSON reads a plain string or the object that the Caddyfile adapter
// writes.
func (g *Grant) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &g.Scope)
	}
	type plain Grant
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	return dec.Decode((*plain)(g))
}

// RateLimit admits N requests each window, at most Burst of them at once.
type RateLimit struct {
	N int `json:"n"`
	// The window. Default: none, it must be given.
	Window caddy.Duration `json:"window"`
	// Default: N.
	Burst int `json:"burst,omitempty"`
}

// Network is an address or a network in CIDR form.
type Network struct{ netip.Prefix }

// UnmarshalText reads 203.0.113.7, 203.0.113.0/24 or the like of IPv6. A
// network with bits behind its mask is refused, since it is read in two ways.
func (n *Network) UnmarshalText(b []byte) error {
	text := string(b)
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		n.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || p.Addr().Zone() != "":
		return fmt.Errorf("%q is neither an address nor a network such as 203.0.113.0/24", text)
	case p.Addr().Is4In6() && p.Bits() < 96:
		return fmt.Errorf("%q: write the IPv4 network itself", text)
	case p.Addr().Is4In6():
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return fmt.Errorf("%q has bits behind its mask; did you mean %s?", text, p.Masked())
	}
	n.Prefix = p
	return nil
}

// MarshalText writes the CIDR form.
func (n Network) MarshalText() ([]byte, error) { return n.Prefix.MarshalText() }

func prefixes(list []Network) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range list {
		out = append(out, n.Prefix)
	}
	return out
}

// Date is a moment written as a date (its first moment in UTC) or as a time
// in RFC 3339.
type Date struct {
	At   time.Time
	text string
}

// IsZero reports whether no moment was given.
func (d Date) IsZero() bool { return d.At.IsZero() }

// UnmarshalText reads 2027-01-31 or 2027-01-31T12:00:00+01:00.
func (d *Date) UnmarshalText(b []byte) error {
	d.text = string(b)
	var err error
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		// The first moment of all would read as none: as a credential without end.
		if d.At, err = time.Parse(layout, d.text); err == nil && !d.At.IsZero() {
			return nil
		}
	}
	return fmt.Errorf("%q is neither a date such as 2027-01-31 nor a time such as 2027-01-31T12:00:00Z", d.text)
}

// MarshalText writes the moment as it was written.
func (d Date) MarshalText() ([]byte, error) {
	if d.text == "" {
		return []byte(d.At.Format(time.RFC3339)), nil
	}
	return []byte(d.text), nil
}
