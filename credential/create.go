package credential

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scopegate/scopegate/store"
)

// New is a credential that is to be made.
type New struct {
	Team, Name string

	// Scopes are names and globs that narrow the team's, AllowedIPs networks
	// that narrow where it may come from. Nil follows the team, whatever it
	// will have.
	Scopes     []string
	AllowedIPs []string

	// Expires and TTL say when it ends; at most one of them is given. Without
	// either it lives for as long as the team's rules allow.
	NotBefore, Expires time.Time
	TTL                time.Duration

	By   string // as claimed
	Note string
}

// Create makes a credential and its first key, which is nowhere else: whoever
// loses it makes another one.
func (r *Registry) Create(ctx context.Context, n New) (store.Credential, Key, error) {
	row, limit, err := r.plan(n)
	if err != nil {
		return store.Credential{}, Key{}, err
	}
	key := Generate()
	row.ID = key.ID()
	row.Generations = []store.Generation{{Number: 1, Hash: key.Hash()}}
	err = r.record(Change{
		Kind: KindCreate, ID: row.ID, Team: row.Team, Name: row.Name, By: n.By, Note: n.Note,
		Scopes: row.Scopes, AllowedIPs: row.AllowedIPs, Expires: row.Expires, Generation: 1,
	})
	if err != nil {
		return store.Credential{}, Key{}, fmt.Errorf("recording the change: %w", err)
	}
	made, err := r.rows.Insert(ctx, row, limit)
	switch {
	case errors.Is(err, store.ErrExists):
		return store.Credential{}, Key{}, &Refused{"name", fmt.Sprintf("the team has a credential %q; choose another name, or revoke that one", n.Name), err}
	case errors.Is(err, store.ErrFull):
		return store.Credential{}, Key{}, &Refused{"team", fmt.Sprintf("it has the %d credentials that it may have (max_credentials); revoke one that nobody uses", limit), err}
	case err != nil:
		return store.Credential{}, Key{}, fmt.Errorf("making a credential: %w", err)
	}
	return made, key, nil
}

// plan checks what is asked for, and returns the row to be and how many the
// team may have.
func (r *Registry) plan(n New) (store.Credential, int, error) {
	row := store.Credential{
		Team: n.Team, Name: n.Name, State: Active.String(), Note: n.Note, CreatedBy: n.By,
		NotBefore: n.NotBefore.UTC().Truncate(time.Microsecond),
	}
	rules, err := r.rules(n.Team)
	if err != nil {
		return row, 0, err
	}
	if err := cmp.Or(checkName(n.Name), CheckText("note", n.Note), CheckText("operator", n.By)); err != nil {
		return row, 0, err
	}
	for _, line := range r.static.byID {
		if line.Identity.Team.Name == n.Team && line.Identity.Name == n.Name {
			return row, 0, refused("name", "the configuration has a credential %q of that team; choose another name", n.Name)
		}
	}
	if row.Scopes, err = grant(n.Scopes, rules.Team.Scopes); err != nil {
		return row, 0, err
	}
	nets, err := networks(n.AllowedIPs)
	if err != nil {
		return row, 0, err
	}
	row.AllowedIPs = texts(nets)
	if row.Expires, err = rules.expiry(r.clock(), n.Expires, n.TTL); err != nil {
		return row, 0, err
	}
	if !row.Expires.IsZero() && !row.Expires.After(row.NotBefore) {
		return row, 0, refused("not_before", "it is not before the end, %s", row.Expires.Format(time.RFC3339))
	}
	return row, rules.MaxCredentials, nil
}
