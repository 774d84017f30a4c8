package scopegate

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/tokens"
)

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
