package scopegate

import (
	"cmp"
	"net/http"
	"time"

	"github.com/scopegate/scopegate/limits"
	"github.com/scopegate/scopegate/scopes"
)

// whoami is the gateway's own operation: what the caller's credential is and
// may do.
var whoami = scopes.Local("whoami", http.MethodGet, "/_scopegate/v1/whoami")

// identityView is what a caller is told of itself.
type identityView struct {
	Gateway         string     `json:"gateway"`
	Team            string     `json:"team"`
	Credential      string     `json:"credential"`
	Name            string     `json:"name"`
	Expires         *time.Time `json:"expires,omitempty"`
	Scopes          []string   `json:"scopes"`
	MintableScopes  []string   `json:"mintable_scopes"`
	MintAllowedIPs  []string   `json:"mint_allowed_ips,omitempty"`
	MintMaxTTL      string     `json:"mint_max_ttl,omitempty"`
	MemberPasswords bool       `json:"member_passwords"`
	Limits          limitsView `json:"limits"`
	Catalogue       string     `json:"catalogue"`
}

type limitsView struct {
	Team       limitView `json:"team"`
	Credential limitView `json:"credential"`
}

type limitView struct {
	Requests    int    `json:"requests,omitempty"`
	Window      string `json:"window,omitempty"`
	Burst       int    `json:"burst,omitempty"`
	MaxInFlight int    `json:"max_in_flight,omitempty"`
}

// answerWhoami answers the gateway's own operation.
func (q *request) answerWhoami() *refusal {
	id := &q.caller.Identity
	view := identityView{
		Gateway: q.g.Name, Team: id.Team.Name, Credential: id.Credential, Name: q.g.name(id),
		Scopes: id.Scopes.Names(), MintableScopes: id.Mintable().Names(),
		MemberPasswords: id.Team.MemberPasswords, Catalogue: scopes.Version(),
		Limits: limitsView{
			Team:       q.g.rules.limitView(id.Team.Name, ""),
			Credential: q.g.rules.limitView(id.Team.Name, cmp.Or(id.Name, limits.Each)),
		},
	}
	if !id.Expires.IsZero() {
		view.Expires = &id.Expires
	}
	if m := id.Team.Mint; m != nil {
		view.MintMaxTTL = m.MaxTTL.String()
		view.MintAllowedIPs = []string{"any"}
		if !m.AnyIP {
			view.MintAllowedIPs = nil
			for _, p := range m.AllowedIPs {
				view.MintAllowedIPs = append(view.MintAllowedIPs, p.String())
			}
		}
	}
	return q.answerHere(func() bool { return q.reply(http.StatusOK, asJSON, encode(view)) })
}
