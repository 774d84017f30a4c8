package scopegate

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/tokens"
)

// smallest lists the least that would have to be added to the configuration
// for the request to be allowed: nothing where it is, or where no
// configuration could. It mends one refusal after the other on a copy, and
// has each step judged by what judges requests.
func (q *question) smallest() []string {
	mended := *q
	mended.caller = clone(q.caller)
	var lines []string
	for range 8 { // each refusal is mended once at most; there are fewer
		var e explanation
		no := mended.decide(&e)
		if no == nil {
			return lines
		}
		more := mended.mend(no.reason, e.Scope)
		if len(more) == 0 {
			return nil
		}
		lines = append(lines, more...)
	}
	return nil
}

func clone(c *credential.Credential) *credential.Credential {
	caller, team := *c, *c.Identity.Team
	if team.Mint != nil {
		mint := *team.Mint
		team.Mint = &mint
	}
	caller.Identity.Team = &team
	return &caller
}

// mend widens the caller's grant by the least that lifts one refusal, and
// returns the lines of configuration that say the same.
func (q *question) mend(reason policy.Reason, scope string) []string {
	id := &q.caller.Identity
	team, cred := "team "+id.Team.Name, "credential "+id.Name
	switch reason {
	case policy.InsufficientScope:
		s, err := scopes.Parse(scope)
		if err != nil {
			return nil
		}
		where := team
		if id.Team.Scopes.Has(s) {
			where += ": " + cred
		}
		id.Scopes, id.Team.Scopes = id.Scopes.Union(scopes.Of(s)), id.Team.Scopes.Union(scopes.Of(s))
		return []string{where + ": scopes " + scope}
	case policy.OperationOff:
		router, err := scopes.NewRouter(true, q.rules.added...)
		if err != nil {
			return nil
		}
		rules := *q.rules
		rules.router = router
		q.rules = &rules
		return []string{"operations +inferred"}
	case policy.ClientAddress:
		return q.mendAddress(team, cred)
	case policy.MemberPassword:
		id.Team.MemberPasswords = true
		return []string{team + ": member_passwords"}
	case policy.MintNotGranted, policy.MintScopes, policy.MintExpiry, policy.MintAddresses:
		return q.mendMint(team, cred)
	}
	return nil
}

func (q *question) mendAddress(team, cred string) []string {
	id := &q.caller.Identity
	if !q.from.IsValid() {
		return nil
	}
	here := netip.PrefixFrom(q.from, q.from.BitLen())
	var lines []string
	for where, list := range map[string]*[]netip.Prefix{team: &id.Team.AllowedIPs, team + ": " + cred: &id.AllowedIPs} {
		if len(*list) > 0 && !slices.ContainsFunc(*list, func(p netip.Prefix) bool { return p.Contains(q.from) }) {
			*list = append(slices.Clone(*list), here)
			lines = append(lines, where+": allowed_ips "+q.from.String())
		}
	}
	slices.Sort(lines)
	return lines
}

// mendMint reads what the body asks for with every bound lifted, and adds to
// the grant just that.
func (q *question) mendMint(team, cred string) []string {
	id := &q.caller.Identity
	free := clone(q.caller)
	free.Identity.Scopes, free.Identity.Expires = scopes.All(), time.Time{}
	free.Identity.Team.Mint = &policy.MintGrant{Scopes: scopes.All(), AnyIP: true, MaxTTL: math.MaxInt64}
	asked, no := tokens.Shape(q.body, &free.Identity, tokens.Rules{Zone: q.rules.zone}, q.now)
	if no != nil {
		return nil // no grant allows it
	}
	grant := id.Team.Mint
	if grant == nil {
		grant = &policy.MintGrant{MaxTTL: defaultMaxTTL}
		id.Team.Mint = grant
	}
	var lines []string
	if lacks := asked.Scopes.Minus(id.Scopes); !lacks.Empty() {
		lines = append(lines, team+": scopes "+lacks.String())
		id.Scopes, id.Team.Scopes = id.Scopes.Union(lacks), id.Team.Scopes.Union(lacks)
	}
	if lacks := asked.Scopes.Minus(grant.Scopes); !lacks.Empty() {
		lines = append(lines, team+": mint: scopes "+lacks.String())
		grant.Scopes = grant.Scopes.Union(lacks)
	}
	var outside []string
	for _, text := range asked.AllowedIPs {
		var n Network
		if n.UnmarshalText([]byte(text)) != nil || grant.AnyIP || slices.ContainsFunc(grant.AllowedIPs, func(p netip.Prefix) bool {
			return p.Bits() <= n.Bits() && p.Contains(n.Addr())
		}) {
			continue
		}
		outside = append(outside, text)
		grant.AllowedIPs = append(slices.Clone(grant.AllowedIPs), n.Prefix)
	}
	if len(outside) > 0 {
		lines = append(lines, team+": mint: allowed_ips "+strings.Join(outside, " "))
	}
	if life := asked.Expires.Sub(q.now); life > grant.MaxTTL {
		days := int(math.Ceil(life.Hours() / 24))
		grant.MaxTTL = time.Duration(days) * 24 * time.Hour
		lines = append(lines, fmt.Sprintf("%s: mint: max_ttl %dd", team, days))
	}
	if !id.Expires.IsZero() && asked.Expires.After(id.Expires) {
		id.Expires = asked.Expires
		lines = append(lines, fmt.Sprintf("%s: %s: expires %s", team, cred, asked.Expires.UTC().Format(time.RFC3339)))
	}
	return lines
}
