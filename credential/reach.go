package credential

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/store"
)

// Extension says how much longer a credential is to live: until a time, or
// for some time from now.
type Extension struct {
	Expires time.Time
	TTL     time.Duration
}

// Extend puts the end of a credential off, as far as the team's rules allow.
func (r *Registry) Extend(ctx context.Context, id string, e Edit, x Extension) (store.Credential, error) {
	if x == (Extension{}) {
		return store.Credential{}, refused("expires_at", "say until when, or for how long (ttl)")
	}
	return r.change(ctx, id, KindExtend, e, func(row *store.Credential, _ *Change) (bool, error) {
		if err := alive(row); err != nil {
			return false, err
		}
		rules, err := r.rules(row.Team)
		if err != nil {
			return false, err
		}
		until, err := rules.expiry(r.clock(), x.Expires, x.TTL)
		switch {
		case err != nil:
			return false, err
		case row.Expires.IsZero():
			return false, refused("expires_at", "it has no end; narrow it to give it one")
		case until.Before(row.Expires):
			return false, refused("expires_at", "it ends later, %s; narrow it to have it end sooner", row.Expires.Format(time.RFC3339))
		case !until.After(row.NotBefore):
			return false, refused("expires_at", "it is not in force before %s", row.NotBefore.Format(time.RFC3339))
		}
		changed := !until.Equal(row.Expires)
		row.Expires = until
		return changed, nil
	})
}

// Narrowing says what a credential is to be cut down to. What is left out
// stays as it is.
type Narrowing struct {
	Scopes     []string // names and globs
	AllowedIPs []string
	Expires    time.Time
}

// Narrow takes from a credential what it has. It gives nothing: whatever the
// credential does not have today is refused.
func (r *Registry) Narrow(ctx context.Context, id string, e Edit, n Narrowing) (store.Credential, error) {
	if n.Scopes == nil && n.AllowedIPs == nil && n.Expires.IsZero() {
		return store.Credential{}, refused("scopes", "say what is to be narrowed: scopes, allowed_ips or expires_at")
	}
	nets, err := networks(n.AllowedIPs)
	if err != nil {
		return store.Credential{}, err
	}
	return r.change(ctx, id, KindNarrow, e, func(row *store.Credential, _ *Change) (bool, error) {
		if err := alive(row); err != nil {
			return false, err
		}
		rules, err := r.rules(row.Team)
		if err != nil {
			return false, err
		}
		s, err := narrowScopes(row, rules.Team, n.Scopes)
		if err != nil {
			return false, err
		}
		a, err := narrowNetworks(row, rules.Team, nets)
		if err != nil {
			return false, err
		}
		x, err := narrowExpiry(row, r.clock(), n.Expires)
		if err != nil {
			return false, err
		}
		return s || a || x, nil
	})
}

func narrowScopes(row *store.Credential, team *policy.Team, patterns []string) (changed bool, err error) {
	if patterns == nil {
		return false, nil
	}
	has := team.Scopes
	if row.Scopes != nil {
		has = has.Intersect(scopeSet(scopeBits(row.Scopes)))
	}
	names, err := grant(patterns, has)
	if err != nil {
		return false, err
	}
	changed = row.Scopes == nil || !slices.Equal(names, row.Scopes)
	row.Scopes = names
	return changed, nil
}

func narrowNetworks(row *store.Credential, team *policy.Team, nets []netip.Prefix) (changed bool, err error) {
	if nets == nil {
		return false, nil
	}
	var has []netip.Prefix
	for _, text := range row.AllowedIPs {
		if p, err := netip.ParsePrefix(text); err == nil {
			has = append(has, p)
		}
	}
	for _, p := range nets {
		if row.AllowedIPs != nil && !covers(has, p) {
			return false, refused("allowed_ips", "%s is not within the networks that the credential has", p)
		}
		if len(team.AllowedIPs) > 0 && !covers(team.AllowedIPs, p) {
			return false, refused("allowed_ips", "%s is not within the networks that the team has", p)
		}
	}
	list := texts(nets)
	changed = row.AllowedIPs == nil || !slices.Equal(list, row.AllowedIPs)
	row.AllowedIPs = list
	return changed, nil
}

func narrowExpiry(row *store.Credential, now, at time.Time) (changed bool, err error) {
	at = at.UTC().Truncate(time.Microsecond)
	switch {
	case at.IsZero():
		return false, nil
	case !at.After(now):
		return false, refused("expires_at", "it is not in the future; revoke the credential to end it now")
	case !row.Expires.IsZero() && at.After(row.Expires):
		return false, refused("expires_at", "it ends sooner, %s; extend it to have it end later", row.Expires.Format(time.RFC3339))
	case !at.After(row.NotBefore):
		return false, refused("expires_at", "it is not in force before %s", row.NotBefore.Format(time.RFC3339))
	case at.Year() > 9999: // JSON has no such time
		return false, refused("expires_at", "it is too late to matter")
	}
	changed = !at.Equal(row.Expires)
	row.Expires = at
	return changed, nil
}
