package scopegate

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scopegate/scopegate/ledger"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/tokens"
)

// tokenStates are the states that a list can be asked for.
var tokenStates = []string{ledger.Intent, ledger.Live, ledger.Unknown, ledger.Revoking, ledger.Gone}

// tokenView is a row of the ledger as the API shows it.
type tokenView struct {
	ID         string     `json:"id"` // empty while it is not known
	Nonce      string     `json:"nonce"`
	Team       string     `json:"team"`
	Credential string     `json:"credential"`
	State      string     `json:"state"`
	Cause      string     `json:"cause,omitempty"`
	Name       string     `json:"name"`
	Scopes     []string   `json:"scopes"`
	AllowedIPs []string   `json:"allowed_ips"`
	ExpiresAt  string     `json:"expires_at"`        // as it was sent
	Expires    *time.Time `json:"expires,omitempty"` // the latest that it can mean
	Created    time.Time  `json:"created_at"`        // by the store's clock
	Changed    time.Time  `json:"changed_at"`        // likewise
	Adopted    bool       `json:"adopted"`           //
	AdoptedBy  string     `json:"adopted_by,omitempty"`
	Attempts   int        `json:"attempts"` // to delete it, or to find out whether it is to be
	Next       *time.Time `json:"next_attempt_at,omitempty"`
	Failure    string     `json:"failure,omitempty"` // of the last attempt
}

func viewToken(t store.Token) tokenView {
	v := tokenView{
		ID: t.ID, Nonce: t.Nonce, Team: t.Team, Credential: t.Credential, State: t.State, Cause: t.Cause,
		Name: tokens.Unstamped(t.Name), Scopes: append([]string{}, t.Scopes...), AllowedIPs: append([]string{}, t.AllowedIPs...),
		ExpiresAt: t.ExpiresAt, Expires: timeOf(t.Expires), Created: t.Created, Changed: t.Changed,
		Adopted: t.Adopted, AdoptedBy: t.CreatedBy, Attempts: t.Attempts, Failure: t.Failure,
	}
	if t.State == ledger.Revoking || t.State == ledger.Unknown && t.ID != "" {
		v.Next = timeOf(t.Due)
	}
	return v
}

// tokenPage is a page of the ledger.
type tokenPage struct {
	Tokens []tokenView `json:"tokens"`
	Next   string      `json:"next,omitempty"`
}

func (c *call) listTokens() error {
	f, err := c.tokenFilter()
	if err != nil {
		return err
	}
	page, err := c.tokens(f)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, page)
}

func (c *call) tokens(f store.TokenFilter) (page tokenPage, err error) {
	page.Tokens = []tokenView{}
	err = c.office.ledgerRows(func(r rows) error {
		list, next, err := r.Tokens(c.r.Context(), f)
		for _, t := range list {
			page.Tokens = append(page.Tokens, viewToken(t))
		}
		page.Next = next
		return err
	})
	return page, err
}

// tokenFilter reads what a list is asked for.
func (c *call) tokenFilter() (f store.TokenFilter, err error) {
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return f, badRequest("", "the query cannot be read")
	}
	known := []string{"team", "credential", "state", "limit", "after"}
	for name, values := range query {
		if !slices.Contains(known, name) {
			return f, missing(kindBadRequest, "there is no parameter %s", name, known)
		}
		if len(values) > 1 {
			return f, badRequest(name, "it stands twice")
		}
		switch value := values[0]; name {
		case "team":
			f.Team = value
		case "credential":
			f.Credential = value
		case "state":
			f.States = strings.Split(value, ",")
			for _, state := range f.States {
				if !slices.Contains(tokenStates, state) {
					return f, badRequest(name, "expected one of %s", strings.Join(tokenStates, ", "))
				}
			}
		case "limit":
			if f.Limit, err = strconv.Atoi(value); err != nil || f.Limit < 1 || f.Limit > maxListed {
				return f, badRequest(name, "expected a number from 1 to %d", maxListed)
			}
		case "after":
			f.After = value
		}
	}
	return f, c.knownTeam("team", f.Team)
}

// token finds a row by its id or, while it has none, by its nonce.
func (c *call) token() (t store.Token, err error) {
	name := c.r.PathValue("id")
	err = c.office.ledgerRows(func(r rows) error {
		if scopes.IsUUID(name) {
			t, err = r.Token(c.r.Context(), strings.ToLower(name))
		} else {
			t, err = r.TokenByNonce(c.r.Context(), name)
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = &problemError{Kind: kindUnknownToken, Detail: "the ledger has no token of that id or nonce; a token that was made past the gateway can be adopted"}
	}
	return t, err
}

func (c *call) showToken() error {
	t, err := c.token()
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, viewToken(t))
}

func (c *call) tokenCounts() (counts []store.TokenCount, err error) {
	err = c.office.ledgerRows(func(r rows) error {
		counts, err = r.TokenCounts(c.r.Context(), "")
		return err
	})
	return counts, err
}
