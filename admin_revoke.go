package scopegate

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/store"
)

// revokeToken has a token deleted. The queue tries it at once, and until it is
// gone.
func (c *call) revokeToken() error {
	var body struct {
		Note string `json:"note"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	g, err := c.keeper()
	if err != nil {
		return err
	}
	t, err := c.token()
	if err != nil {
		return err
	}
	if t.State == ledger.Revoking || t.State == ledger.Gone {
		return c.reply(http.StatusOK, viewToken(t))
	}
	if t.State != ledger.Live {
		return &problemError{Kind: kindState, Detail: "the token is " + t.State + ": what becomes of it is being found out, and it is deleted if it is there and ours"}
	}
	err = c.recorded(g, audit.Record{Change: changeTokenRevoke, Team: t.Team, Credential: t.Credential, TokenID: t.ID, Note: body.Note}, func(ctx context.Context, by string) error {
		t, err = g.room.ledger.Revoke(ctx, t, cmp.Or(body.Note, "revoked by "+by), 0)
		return err
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, viewToken(t))
}

// revokeTokens has all tokens of one credential deleted.
func (c *call) revokeTokens() error {
	var body struct {
		Credential string `json:"credential"`
		Note       string `json:"note"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if body.Credential == "" || !isShown(body.Credential) {
		return badRequest("credential", "expected the id of a credential")
	}
	return c.owe(audit.Record{Change: changeTokenRevoke, Credential: body.Credential, Note: body.Note}, func(ctx context.Context, g *Gateway, by string) (int, error) {
		return g.room.ledger.Cascade(ctx, body.Credential, cmp.Or(body.Note, "revoked by "+by))
	})
}

// drainTeam has all tokens of a team deleted, also of one that is gone from the
// configuration: that alone deletes nothing, since a typo must not.
func (c *call) drainTeam() error {
	var body struct {
		Note string `json:"note"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	name := c.r.PathValue("team")
	if err := c.knownTeam("", name); err != nil {
		return err
	}
	return c.owe(audit.Record{Change: changeTeamDrain, Team: name, Note: body.Note}, func(ctx context.Context, g *Gateway, by string) (int, error) {
		return g.room.ledger.Drain(ctx, name, cmp.Or(body.Note, "its team was drained by "+by))
	})
}

func (c *call) owe(rec audit.Record, do func(context.Context, *Gateway, string) (int, error)) error {
	g, err := c.keeper()
	if err != nil {
		return err
	}
	var owed int
	err = c.recorded(g, rec, func(ctx context.Context, by string) error {
		owed, err = do(ctx, g, by)
		return err
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]int{"owed": owed})
}

// drainable is a team that is gone from the configuration, whose tokens live
// on until somebody says what is to become of them.
type drainable struct {
	Team string `json:"team"`
	Live int    `json:"live"`
}

// listDebt shows what is owed or not known, and what awaits a drain.
func (c *call) listDebt() error {
	f, err := c.tokenFilter()
	if err != nil {
		return err
	}
	if f.States == nil {
		f.States = []string{ledger.Revoking, ledger.Unknown}
	}
	page, err := c.tokens(f)
	if err != nil {
		return err
	}
	counts, err := c.tokenCounts()
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]any{
		"tokens": page.Tokens, "next": page.Next, "awaiting_drain": c.office.compiled().drainables(counts),
	})
}

func (c *compiled) drainables(counts []store.TokenCount) []drainable {
	known, gone := c.byName(), map[string]int{}
	for _, n := range counts {
		if known[n.Team] == nil && n.State == ledger.Live {
			gone[n.Team] += n.N
		}
	}
	list := []drainable{}
	for team, live := range gone {
		list = append(list, drainable{team, live})
	}
	slices.SortFunc(list, func(a, b drainable) int { return cmp.Compare(a.Team, b.Team) })
	return list
}
