package scopegate

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/upstream"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("scopegate", parseCaddyfile)
	// Before Caddy's own authentication: a gateway is terminal and brings its
	// own, so that nothing ordered later answers in its place.
	httpcaddyfile.RegisterDirectiveOrder("scopegate", httpcaddyfile.Before, "basic_auth")
}

// parseCaddyfile also checks what was read, while it is still known where it
// stands, and before a token that was written out in it could be printed.
func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next()
	g, at := new(Gateway), source(h.Dispenser)
	if err := g.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	if err := errors.Join(g.check(), g.Validate()); err != nil {
		return nil, fmt.Errorf("the gateway at %s: %w", at, err)
	}
	return g, nil
}

// UnmarshalCaddyfile sets up the gateway from Caddyfile tokens:
//
//	scopegate [<name>] {
//	    upstream <url> {
//	        master_token         {env.X} | {file.<path>}
//	        master_token_file    <path>
//	        master_token_id      <uuid>
//	        master_token_expires <date>
//	        transport http { ... }
//	        timeout              <duration>
//	        retries              <count>
//	        max_in_flight        <count>
//	    }
//	    expires_zone <zone>
//	    operations   +inferred
//	    operation    <method> <path> <scope>
//	    coalesce
//	    store        sqlite [<path>]
//	    store        postgres <placeholder> [poll]
//	    store        none
//	    store_grace  <duration>
//	    stamp_key    {env.X} | {file.<path>}
//	    max_token_name <count>
//	    reconcile    <duration> | off
//	    team <name> {
//	        scopes        <scope|glob>...
//	        mint {
//	            scopes      <scope|glob>...
//	            allowed_ips <network>... | any
//	            max_ttl     <duration>
//	            max_live    <count>
//	            mint_quota  <count> per day
//	            clamp
//	        }
//	        allowed_ips   <network>...
//	        rate_limit    <requests> <window> [<burst>]
//	        max_in_flight <count>
//	        member_passwords
//	        max_credentials          <count>
//	        max_credential_ttl       <duration>
//	        credential_rate_limit    <requests> <window> [<burst>]
//	        credential_max_in_flight <count>
//	        lock_on_reuse
//	        tokens all
//	        enforce off until <date>
//	        credential <name> {
//	            hash          <id>:<sha256>
//	            state         active|suspended|revoked
//	            not_before    <date>
//	            expires       <date>
//	            scopes        <scope|glob>...
//	            allowed_ips   <network>...
//	            rate_limit    <requests> <window> [<burst>]
//	            max_in_flight <count>
//	        }
//	    }
//	    audit {
//	        output     <writer> ...
//	        durability changes | full
//	        checkpoint <count> <duration>
//	        key        {env.X} | {file.<path>}
//	        anchor     file <path>
//	        anchor     http <url>
//	        anchor     output <writer> ...
//	    }
//	}
//
// An option that is unknown, or stands twice where once makes sense, is an
// error: a typo must not quietly widen or drop a rule.
func (g *Gateway) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if d.Val() != "scopegate" {
		d.Next()
	}
	if args := d.RemainingArgs(); len(args) > 1 {
		return d.Errf("expected `scopegate [<name>]`, with one name at most")
	} else if len(args) == 1 {
		g.Name = args[0]
	}
	return options{
		"upstream":     {parse: g.parseUpstream},
		"expires_zone": {parse: text(&g.ExpiresZone)},
		"operations": {parse: func(d *caddyfile.Dispenser) error {
			var what string
			if !d.AllArgs(&what) || what != "+inferred" {
				return d.Errf("expected `operations +inferred`")
			}
			g.InferredOperations = true
			return nil
		}},
		"operation": {many: true, parse: func(d *caddyfile.Dispenser) error {
			o := Operation{Source: source(d)}
			if !d.AllArgs(&o.Method, &o.Path, &o.Scope) {
				return d.Errf("expected `operation <method> <path> <scope>`, such as: operation GET /api/v1/new/{id} devices.read")
			}
			if _, err := scopes.NewOperation(o.Method, o.Path, o.Scope); err != nil {
				return d.WrapErr(err)
			}
			g.Operations = append(g.Operations, o)
			return nil
		}},
		"coalesce": {parse: flag(&g.Coalesce)},
		"store":    {parse: g.parseStore},
		"store_grace": {parse: func(d *caddyfile.Dispenser) error {
			return duration(&g.store().Grace)(d)
		}},
		"stamp_key":      {parse: text(&g.StampKey)},
		"max_token_name": {parse: count(&g.MaxTokenName)},
		"reconcile": {parse: func(d *caddyfile.Dispenser) error {
			if d.CountRemainingArgs() == 1 && d.NextArg() {
				if d.Val() == "off" {
					g.Reconcile = -1
					return nil
				}
				d.Prev()
			}
			return duration(&g.Reconcile)(d)
		}},
		"team": {many: true, parse: func(d *caddyfile.Dispenser) error {
			t := &Team{Source: source(d)}
			if !d.AllArgs(&t.Name) {
				return d.Errf("expected `team <name> { ... }`")
			}
			g.Teams = append(g.Teams, t)
			return t.parse(d)
		}},
		"audit": {parse: g.parseAudit},
	}.parse(d, "scopegate")
}

func (g *Gateway) parseUpstream(d *caddyfile.Dispenser) error {
	u := &upstream.Config{}
	g.Upstream = u
	if !d.AllArgs(&u.URL) {
		return d.Errf("expected `upstream <url> { ... }`, such as: upstream https://integration.goodaccess.com { ... }")
	}
	return options{
		"master_token":         {parse: text(&u.MasterToken)},
		"master_token_file":    {parse: text(&u.MasterTokenFile)},
		"master_token_id":      {parse: text(&g.MasterTokenID)},
		"master_token_expires": {parse: value(&g.MasterTokenExpires)},
		"timeout":              {parse: duration(&u.Timeout)},
		"retries": {parse: func(d *caddyfile.Dispenser) error {
			u.Retries = new(int)
			return count(u.Retries)(d)
		}},
		"max_in_flight": {parse: count(&u.MaxInFlight)},
		"transport": {parse: func(d *caddyfile.Dispenser) error {
			if !d.NextArg() || d.Val() != "http" {
				return d.Errf("expected `transport http { ... }`: no other transport is supported")
			}
			mod, err := caddyfile.UnmarshalModule(d, "http.reverse_proxy.transport.http")
			if err != nil {
				return err
			}
			rt, ok := mod.(http.RoundTripper)
			if !ok {
				return d.Errf("transport %T is no round tripper", mod)
			}
			u.TransportRaw = caddyconfig.JSONModuleObject(rt, "protocol", "http", nil)
			return nil
		}},
	}.parse(d, "upstream")
}

// store is what the options of the store write to.
func (g *Gateway) store() *Store {
	if g.Store == nil {
		g.Store = &Store{}
	}
	return g.Store
}

func (g *Gateway) parseStore(d *caddyfile.Dispenser) error {
	s, args := g.store(), d.RemainingArgs()
	if len(args) == 0 {
		args = []string{""}
	}
	switch {
	case len(args) == 1 && args[0] == storeNone:
	case args[0] == storeSQLite && len(args) == 1:
	case args[0] == storeSQLite && len(args) == 2:
		s.Path = args[1]
	case args[0] == storePostgres && len(args) == 2:
		s.Address = args[1]
	case args[0] == storePostgres && len(args) == 3 && args[2] == "poll":
		s.Address, s.Poll = args[1], true
	default:
		return d.Errf("expected `store sqlite [<path>]`, `store postgres {env.DATABASE_URL} [poll]` or `store none`")
	}
	s.Driver = args[0]
	return nil
}

func (t *Team) parse(d *caddyfile.Dispenser) error {
	return options{
		"scopes": {many: true, parse: t.Scopes.parse},
		"mint": {parse: func(d *caddyfile.Dispenser) error {
			if t.Mint = (&Mint{Source: source(d)}); d.NextArg() {
				return d.ArgErr()
			}
			return t.Mint.parse(d)
		}},
		"allowed_ips":              {many: true, parse: networks(&t.AllowedIPs)},
		"rate_limit":               {parse: rateLimit(&t.RateLimit)},
		"max_in_flight":            {parse: count(&t.MaxInFlight)},
		"member_passwords":         {parse: flag(&t.MemberPasswords)},
		"max_credentials":          {parse: count(&t.MaxCredentials)},
		"max_credential_ttl":       {parse: duration(&t.MaxCredentialTTL)},
		"credential_rate_limit":    {parse: rateLimit(&t.CredentialRateLimit)},
		"credential_max_in_flight": {parse: count(&t.CredentialMaxInFlight)},
		"lock_on_reuse":            {parse: flag(&t.LockOnReuse)},
		"enforce": {parse: func(d *caddyfile.Dispenser) error {
			var off, until, date string
			if !d.AllArgs(&off, &until, &date) || off != "off" || until != "until" {
				return d.Errf("expected `enforce off until <date>`, such as: enforce off until 2027-01-31")
			}
			if err := t.ShadowUntil.UnmarshalText([]byte(date)); err != nil {
				return d.WrapErr(err)
			}
			return nil
		}},
		"tokens": {parse: func(d *caddyfile.Dispenser) error {
			var what string
			if !d.AllArgs(&what) || what != "all" {
				return d.Errf("expected `tokens all`")
			}
			t.AllTokens = true
			return nil
		}},
		"credential": {many: true, parse: func(d *caddyfile.Dispenser) error {
			c := &Credential{Source: source(d)}
			if !d.AllArgs(&c.Name) {
				return d.Errf("expected `credential <name> { ... }`")
			}
			t.Credentials = append(t.Credentials, c)
			return c.parse(d)
		}},
	}.parse(d, "team")
}

func (m *Mint) parse(d *caddyfile.Dispenser) error {
	return options{
		"scopes": {many: true, parse: m.Scopes.parse},
		"allowed_ips": {many: true, parse: func(d *caddyfile.Dispenser) error {
			args := d.RemainingArgs()
			if slices.Contains(args, "any") {
				m.AnyIP = true
				args = slices.DeleteFunc(args, func(a string) bool { return a == "any" })
				if len(args) == 0 {
					return nil
				}
			}
			return parseNetworks(d, args, &m.AllowedIPs)
		}},
		"max_ttl":  {parse: duration(&m.MaxTTL)},
		"max_live": {parse: count(&m.MaxLive)},
		"mint_quota": {parse: func(d *caddyfile.Dispenser) error {
			var n, per, day string
			if !d.AllArgs(&n, &per, &day) || per != "per" || day != "day" {
				return d.Errf("expected `mint_quota <count> per day`")
			}
			var err error
			if m.Quota, err = strconv.Atoi(n); err != nil || m.Quota <= 0 {
				return d.Errf("mint_quota %q: expected a whole number above zero", n)
			}
			return nil
		}},
		"clamp": {parse: flag(&m.Clamp)},
	}.parse(d, "mint")
}

func (c *Credential) parse(d *caddyfile.Dispenser) error {
	return options{
		"hash": {many: true, parse: func(d *caddyfile.Dispenser) error {
			var text string
			if !d.AllArgs(&text) {
				return d.Errf("expected `hash <id>:<sha256>`, as `scopegate key generate` prints it")
			}
			v, err := credential.ParseVerifier(text)
			if err != nil {
				return d.WrapErr(err)
			}
			c.Hashes = append(c.Hashes, v)
			return nil
		}},
		"state":         {parse: text(&c.State)},
		"not_before":    {parse: value(&c.NotBefore)},
		"expires":       {parse: value(&c.Expires)},
		"scopes":        {many: true, parse: c.Scopes.parse},
		"allowed_ips":   {many: true, parse: networks(&c.AllowedIPs)},
		"rate_limit":    {parse: rateLimit(&c.RateLimit)},
		"max_in_flight": {parse: count(&c.MaxInFlight)},
	}.parse(d, "credential")
}

func (g *Gateway) parseAudit(d *caddyfile.Dispenser) error {
	g.Audit = &Audit{}
	if d.NextArg() {
		return d.ArgErr()
	}
	return options{
		"durability": {parse: text((*string)(&g.Audit.Durability))},
		"checkpoint": {parse: g.Audit.parseCheckpoint},
		"key":        {parse: text(&g.Audit.Key)},
		"anchor":     {many: true, parse: g.Audit.parseAnchor},
		"output":     {many: true, parse: g.Audit.parseOutput},
	}.parse(d, "audit")
}

// parseCheckpoint reads `checkpoint 1000 10s`.
func (a *Audit) parseCheckpoint(d *caddyfile.Dispenser) error {
	var n, every string
	if !d.AllArgs(&n, &every) {
		return d.Errf("expected `checkpoint <count> <duration>`, such as `checkpoint 1000 10s`")
	}
	a.Checkpoint = &Checkpoint{}
	var err error
	if a.Checkpoint.Records, err = strconv.Atoi(n); err != nil || a.Checkpoint.Records <= 0 {
		return d.Errf("checkpoint %q: expected a number of lines above zero", n)
	}
	return parseDuration(d, "checkpoint", every, &a.Checkpoint.Every)
}

func (a *Audit) parseOutput(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Errf("expected `output file <path>`, or a mirror such as `output stdout`")
	}
	name := d.Val()
	w, err := parseWriter(d, name)
	if err != nil {
		return err
	}
	raw := caddyconfig.JSONModuleObject(w, "output", name, nil)
	switch {
	case name != "file":
		a.MirrorsRaw = append(a.MirrorsRaw, raw)
	case a.WriterRaw != nil:
		return d.Errf("a second `output file`: the durable log is one file")
	default:
		a.WriterRaw = raw
	}
	return nil
}

// parseWriter reads one of Caddy's log writers. The standard streams have no
// options, and so nothing that could read them.
func parseWriter(d *caddyfile.Dispenser, name string) (caddy.WriterOpener, error) {
	switch name {
	case "stdout":
		return caddy.StdoutWriter{}, nil
	case "stderr":
		return caddy.StderrWriter{}, nil
	}
	mod, err := caddyfile.UnmarshalModule(d, "caddy.logging.writers."+name)
	if err != nil {
		return nil, err
	}
	w, ok := mod.(caddy.WriterOpener)
	if !ok {
		return nil, d.Errf("%s is no log writer", name)
	}
	return w, nil
}

func (g *Grants) parse(d *caddyfile.Dispenser) error {
	start := len(*g)
	for d.NextArg() {
		if _, err := scopes.Expand(d.Val()); err != nil {
			return d.WrapErr(err)
		}
		*g = append(*g, Grant{Scope: d.Val(), Source: source(d)})
	}
	if len(*g) == start {
		return d.Errf("expected scopes, such as: scopes members.read members.read-all")
	}
	return nil
}

// source names the line that the dispenser stands on, without the folder, so
// that an adapted configuration does not depend on where it was adapted.
func source(d *caddyfile.Dispenser) string {
	return fmt.Sprintf("%s:%d", filepath.Base(d.File()), d.Line())
}

func isGlob(pattern string) bool { return strings.Contains(pattern, "*") }

// Interface guards.
var (
	_ caddyfile.Unmarshaler = (*Gateway)(nil)
	_ json.Unmarshaler      = (*Grant)(nil)
)
