package credential

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
)

// Rows is the slice of a store that a Registry uses. What it returns is the
// caller's to change.
type Rows interface {
	Credential(ctx context.Context, id string) (store.Credential, error)
	Credentials(ctx context.Context, f store.Filter) (list []store.Credential, next string, err error)
	Insert(ctx context.Context, c store.Credential, limit int) (store.Credential, error)
	Update(ctx context.Context, c store.Credential) (store.Credential, error)
}

// Rules bounds the credentials that a team may have.
type Rules struct {
	Team *policy.Team

	MaxCredentials int           // that are not revoked and not expired; 0 is no bound
	MaxTTL         time.Duration // from when it is said; 0 is no bound
}

// The kinds of changes.
const (
	KindCreate  = "create"
	KindRotate  = "rotate"
	KindSuspend = "suspend"
	KindResume  = "resume"
	KindExtend  = "extend"
	KindNarrow  = "narrow"
	KindRevoke  = "revoke"
	KindEnd     = "end"  // an older key, because the newest one was used
	KindLock    = "lock" // because a retired key was used
)

// Change is what is about to become of a credential.
type Change struct {
	Kind       string
	ID         string
	Team       string
	Name       string
	By         string // as claimed
	Note       string
	Scopes     []string // what it narrows its team to; nil is all
	AllowedIPs []string // likewise

	Expires    time.Time
	Generation int // the key that is made or ended
}

// Registry makes and changes credentials within the rules of one
// configuration. It is safe for concurrent use. What it changed is in force
// where the Cache was told to forget it, which others see to.
type Registry struct {
	rows   Rows
	static *Static
	teams  map[string]Rules
	record func(Change) error
	now    func() time.Time
}

// NewRegistry returns a Registry over the rows of a store, the credentials of
// the configuration, and the rules of its teams by their names. Each change
// is told to record before it takes effect, and does not if that fails. What
// was recorded may still fail.
func NewRegistry(rows Rows, static *Static, teams map[string]Rules, record func(Change) error, now func() time.Time) *Registry {
	return &Registry{rows, static, teams, record, now}
}

// Edit is what all changes of a credential have in common.
type Edit struct {
	Note string // why, for people
	By   string // as claimed

	// If is the revision that the row must have, 0 any.
	If int64
}

// Refused says that something was asked for which cannot be had: which field
// of it, and what to do. It never holds what may be a key.
//
//nolint:errname // it is an answer to a caller as much as an error, and reads as one
type Refused struct {
	Field string
	Text  string
	cause error
}

// Error returns the field and the text.
func (r *Refused) Error() string { return r.Field + ": " + r.Text }

// Unwrap returns the store's answer behind a refusal, if there is one.
func (r *Refused) Unwrap() error { return r.cause }

func refused(field, format string, args ...any) error {
	return &Refused{Field: field, Text: fmt.Sprintf(format, args...)}
}

// Show returns one credential. One of the configuration's comes back as a row
// which is marked as static and has what the configuration says; its state is
// the worse of the two.
func (r *Registry) Show(ctx context.Context, id string) (store.Credential, error) {
	if err := checkID(id); err != nil {
		return store.Credential{}, err
	}
	row, err := r.read(ctx, id)
	line := r.static.byID[id]
	if err != nil || line == nil || !row.Static {
		return row, err
	}
	who := &line.Identity
	row.Team, row.Name = who.Team.Name, who.Name
	row.NotBefore, row.Expires = line.NotBefore, line.Expires
	row.Scopes = who.Scopes.Names()
	for _, p := range who.AllowedIPs {
		row.AllowedIPs = append(row.AllowedIPs, p.String())
	}
	if s, err := ParseState(row.State); err == nil {
		row.State = max(s, line.State).String()
	}
	return row, nil
}

// List returns a page of the store's rows, and the id behind which the next
// one begins. Credentials of the configuration are in it only where a row
// says their state.
func (r *Registry) List(ctx context.Context, f store.Filter) (list []store.Credential, next string, err error) {
	for _, name := range f.States {
		if _, err := ParseState(name); err != nil {
			return nil, "", refused("state", "expected active, suspended or revoked")
		}
	}
	if list, next, err = r.rows.Credentials(ctx, f); err != nil {
		return nil, "", fmt.Errorf("listing credentials: %w", err)
	}
	return list, next, nil
}

// read returns the row that is to be changed: of a credential of the
// configuration one that takes nothing from it, if there is none yet.
func (r *Registry) read(ctx context.Context, id string) (store.Credential, error) {
	row, err := r.rows.Credential(ctx, id)
	if err == nil {
		return row, nil
	}
	if line := r.static.byID[id]; line != nil && errors.Is(err, store.ErrNotFound) {
		return store.Credential{
			ID: id, Team: line.Identity.Team.Name, Name: line.Identity.Name, State: Active.String(), Static: true,
		}, nil
	}
	return store.Credential{}, fmt.Errorf("reading credential %s: %w", id, err)
}

// attempts bounds how often a change is tried against those of others.
const attempts = 10

// change reads a row, has alter change it, and writes it. Nothing is recorded
// or written if alter reports that there is nothing to change. Without a
// revision to insist on, a row that somebody else changed is read again.
func (r *Registry) change(ctx context.Context, id, kind string, e Edit, alter func(*store.Credential, *Change) (bool, error)) (store.Credential, error) {
	if err := cmp.Or(checkID(id), CheckText("note", e.Note), CheckText("operator", e.By)); err != nil {
		return store.Credential{}, err
	}
	var told Change
	for range attempts {
		row, err := r.read(ctx, id)
		if err != nil {
			return store.Credential{}, err
		}
		if e.If != 0 && e.If != row.Revision {
			return store.Credential{}, fmt.Errorf("changing credential %s: %w", id, store.ErrChanged)
		}
		c := Change{Kind: kind, ID: id, Team: row.Team, Name: row.Name, By: e.By, Note: e.Note}
		changed, err := alter(&row, &c)
		if err != nil {
			return store.Credential{}, err
		}
		if !changed {
			return row, nil
		}
		c.Scopes, c.AllowedIPs, c.Expires = row.Scopes, row.AllowedIPs, row.Expires
		if !reflect.DeepEqual(c, told) { // a second try of the same is no second change
			if err := r.record(c); err != nil {
				return store.Credential{}, fmt.Errorf("recording the change: %w", err)
			}
			told = c
		}
		written, err := r.write(ctx, row, e.By)
		if err == nil {
			return written, nil
		}
		lost := errors.Is(err, store.ErrChanged) || row.Static && errors.Is(err, store.ErrExists)
		if !lost {
			return store.Credential{}, fmt.Errorf("changing credential %s: %w", id, err)
		}
	}
	return store.Credential{}, fmt.Errorf("changing credential %s, which others change all the time: %w", id, store.ErrChanged)
}

func (r *Registry) write(ctx context.Context, row store.Credential, by string) (store.Credential, error) {
	if row.Revision != 0 {
		return r.rows.Update(ctx, row)
	}
	row.CreatedBy = by
	return r.rows.Insert(ctx, row, 0)
}

// rules returns those of a team.
func (r *Registry) rules(team string) (Rules, error) {
	if rules, ok := r.teams[team]; ok {
		return rules, nil
	}
	if holdsKey(team) {
		return Rules{}, refused("team", "a key stands where the name of a team belongs")
	}
	var names []string
	for name := range r.teams {
		names = append(names, name)
	}
	slices.Sort(names)
	if near := scopes.Nearest(team, names); near != "" {
		return Rules{}, refused("team", "no team %q is configured; did you mean %q?", team, near)
	}
	return Rules{}, refused("team", "no team %q is configured", team)
}

// clock is the time in the store's precision.
func (r *Registry) clock() time.Time { return r.now().UTC().Truncate(time.Microsecond) }
