package scopegate

import (
	"encoding"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/scopegate/scopegate/scopes"
)

// options are the words of one block.
type options map[string]option

type option struct {
	many  bool // may stand more than once
	parse func(*caddyfile.Dispenser) error
}

func (o options) parse(d *caddyfile.Dispenser, block string) error {
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		opt, ok := o[name]
		switch {
		case !ok:
			known := slices.Sorted(maps.Keys(o))
			if near := scopes.Nearest(name, known); near != "" {
				return d.Errf("unknown option %q in %s; did you mean %q?", name, block, near)
			}
			return d.Errf("unknown option %q in %s; expected one of: %s", name, block, strings.Join(known, ", "))
		case seen[name] && !opt.many:
			return d.Errf("%s stands twice in %s", name, block)
		}
		seen[name] = true
		if err := opt.parse(d); err != nil {
			return err
		}
	}
	return nil
}

func text(to *string) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		if name := d.Val(); !d.AllArgs(to) {
			return d.Errf("expected `%s <value>`; a {$NAME} that is not set leaves no value", name)
		}
		return nil
	}
}

func flag(to *bool) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		if *to = true; d.NextArg() {
			return d.ArgErr()
		}
		return nil
	}
}

func value(to encoding.TextUnmarshaler) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		var s string
		if err := text(&s)(d); err != nil {
			return err
		}
		if err := to.UnmarshalText([]byte(s)); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

func count(to *int) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		name, s := d.Val(), ""
		if err := text(&s)(d); err != nil {
			return err
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return d.Errf("%s %q: expected a whole number, zero or above", name, s)
		}
		*to = n
		return nil
	}
}

func duration(to *caddy.Duration) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		name, s := d.Val(), ""
		if err := text(&s)(d); err != nil {
			return err
		}
		return parseDuration(d, name, s, to)
	}
}

func parseDuration(d *caddyfile.Dispenser, name, s string, to *caddy.Duration) error {
	dur, err := caddy.ParseDuration(s)
	if err != nil || dur <= 0 {
		return d.Errf("%s %q: expected a duration above zero, such as 30s, 1h or 30d", name, s)
	}
	*to = caddy.Duration(dur)
	return nil
}

func networks(to *[]Network) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error { return parseNetworks(d, d.RemainingArgs(), to) }
}

func parseNetworks(d *caddyfile.Dispenser, args []string, to *[]Network) error {
	if len(args) == 0 {
		return d.Errf("expected networks, such as: allowed_ips 203.0.113.0/24")
	}
	for _, arg := range args {
		var n Network
		if err := n.UnmarshalText([]byte(arg)); err != nil {
			return d.WrapErr(err)
		}
		*to = append(*to, n)
	}
	return nil
}

func rateLimit(to **RateLimit) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		name, args := d.Val(), d.RemainingArgs()
		if len(args) < 2 || len(args) > 3 {
			return d.Errf("expected `%s <requests> <window> [<burst>]`, such as: %[1]s 120 1m", name)
		}
		r := &RateLimit{}
		numbers := map[int]*int{0: &r.N, 2: &r.Burst}
		for i, arg := range args {
			if i == 1 {
				if err := parseDuration(d, name, arg, &r.Window); err != nil {
					return err
				}
				continue
			}
			n, err := strconv.Atoi(arg)
			if err != nil || n <= 0 {
				return d.Errf("%s %q: expected a whole number above zero", name, arg)
			}
			*numbers[i] = n
		}
		*to = r
		return nil
	}
}
