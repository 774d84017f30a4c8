package scopegate

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
)

// changeKinds are the changes that an operator asks for, by their routes.
var changeKinds = []string{
	credential.KindRotate, credential.KindSuspend, credential.KindResume,
	credential.KindExtend, credential.KindNarrow, credential.KindRevoke,
}

// credentialView is a stored credential as the API shows it.
type credentialView struct {
	ID          string           `json:"id"`
	Team        string           `json:"team"`
	Name        string           `json:"name"`
	State       string           `json:"state"`
	Note        string           `json:"note,omitempty"`
	Static      bool             `json:"static"` // only the state of a line of the configuration
	Scopes      []string         `json:"scopes"`
	AllowedIPs  []string         `json:"allowed_ips"`
	NotBefore   *time.Time       `json:"not_before,omitempty"`
	Expires     *time.Time       `json:"expires_at,omitempty"`
	Created     *time.Time       `json:"created_at,omitempty"`
	CreatedBy   string           `json:"created_by,omitempty"`
	Changed     *time.Time       `json:"changed_at,omitempty"`
	Revision    int64            `json:"revision"`
	Generations []generationView `json:"generations"`
	LastUse     *useView         `json:"last_use,omitempty"`

	// Owed is how many tokens a suspension that cascades had marked for
	// deletion.
	Owed *int `json:"owed,omitempty"`

	// Key is in the one answer that made it.
	Key string `json:"key,omitempty"`
}

type generationView struct {
	Number    int        `json:"number"`
	Created   time.Time  `json:"created_at"`
	Ends      *time.Time `json:"ends_at,omitempty"`
	EndsOnUse bool       `json:"ends_on_use"`
}

type useView struct {
	At        time.Time `json:"at"`
	Address   string    `json:"client_ip"`
	Operation string    `json:"operation"`
}

func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// view shows a row. What it narrows its team to is shown as what it has: the
// team's, where it narrows nothing.
func view(row store.Credential, teams []*policy.Team) credentialView {
	v := credentialView{
		ID: row.ID, Team: row.Team, Name: row.Name, State: row.State, Note: row.Note, Static: row.Static,
		Scopes: []string{}, AllowedIPs: append([]string{}, row.AllowedIPs...),
		NotBefore: timeOf(row.NotBefore), Expires: timeOf(row.Expires),
		Created: timeOf(row.Created), CreatedBy: row.CreatedBy, Changed: timeOf(row.Changed), Revision: row.Revision,
		Generations: []generationView{},
	}
	if i := slices.IndexFunc(teams, func(t *policy.Team) bool { return t.Name == row.Team }); i >= 0 {
		held := teams[i].Scopes
		if row.Scopes != nil {
			held = setOf(row.Scopes).Intersect(held)
		}
		v.Scopes = append(v.Scopes, held.Names()...)
	}
	for _, g := range row.Generations {
		v.Generations = append(v.Generations, generationView{g.Number, g.Created, timeOf(g.Ends), g.EndsOnUse})
	}
	if !row.Used.At.IsZero() {
		v.LastUse = &useView{row.Used.At, row.Used.Address, row.Used.Operation}
	}
	return v
}

// setOf reads stored names. One that this version does not know grants nothing.
func setOf(names []string) (set scopes.Set) {
	for _, name := range names {
		if s, err := scopes.Parse(name); err == nil {
			set = set.Union(scopes.Of(s))
		}
	}
	return set
}

func (c *call) view(row store.Credential) credentialView { return view(row, c.office.compiled().teams) }

func (c *call) listCredentials() error {
	filter, err := c.filter()
	if err == nil {
		err = c.knownTeam("team", filter.Team)
	}
	if err != nil {
		return err
	}
	answer := struct {
		Credentials []credentialView `json:"credentials"`
		Next        string           `json:"next,omitempty"`
	}{Credentials: []credentialView{}}
	err = c.office.read(func(r *credential.Registry) error {
		list, next, err := r.List(c.r.Context(), filter)
		for _, row := range list {
			answer.Credentials = append(answer.Credentials, c.view(row))
		}
		answer.Next = next
		return err
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, answer)
}

// knownTeam refuses to look for what a team has that neither the configuration
// nor the store knows: nothing would be found, and whoever misspelt it would
// take that for revoked. One that is gone from the configuration may
// have left some.
func (c *call) knownTeam(field, name string) error {
	names := c.office.compiled().teamNames()
	if name == "" || slices.Contains(names, name) {
		return nil
	}
	counts, err := c.tokenCounts()
	if err != nil {
		return err
	}
	for _, n := range counts {
		names = append(names, n.Team)
	}
	if slices.Contains(names, name) {
		return nil
	}
	return c.office.read(func(r *credential.Registry) error {
		left, _, err := r.List(c.r.Context(), store.Filter{Team: name, Limit: 1})
		if err != nil || len(left) > 0 {
			return err
		}
		p := missing(kindUnknownTeam, "there is no team %s, and none of that name has left anything", name, names)
		p.Field = field
		return p
	})
}

func (c *call) showCredential() error {
	var row store.Credential
	err := c.office.read(func(r *credential.Registry) (err error) {
		row, err = r.Show(c.r.Context(), c.r.PathValue("id"))
		return err
	})
	if err != nil {
		return err
	}
	c.tag(row)
	return c.reply(http.StatusOK, c.view(row))
}

func (c *call) createCredential() error {
	var body struct {
		Team       string   `json:"team"`
		Name       string   `json:"name"`
		Scopes     []string `json:"scopes"`
		AllowedIPs []string `json:"allowed_ips"`
		NotBefore  moment   `json:"not_before"`
		Expires    moment   `json:"expires_at"`
		TTL        span     `json:"ttl"`
		Note       string   `json:"note"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if err := body.TTL.positive("ttl"); err != nil {
		return err
	}
	by, err := c.operator()
	if err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	var key credential.Key
	row, err := c.office.change(func(r *credential.Registry) (row store.Credential, err error) {
		row, key, err = r.Create(ctx, credential.New{
			Team: body.Team, Name: body.Name, Scopes: body.Scopes, AllowedIPs: body.AllowedIPs,
			NotBefore: body.NotBefore.Time, Expires: body.Expires.Time, TTL: body.TTL.Duration, By: by, Note: body.Note,
		})
		return row, err
	})
	if err != nil {
		return err
	}
	v := c.view(row)
	v.Key = key.Reveal()
	c.tag(row)
	c.w.Header().Set("Location", "/scopegate/"+url.PathEscape(c.name)+"/credentials/"+row.ID)
	return c.reply(http.StatusCreated, v)
}

// changeBody is what the changes may say, each only some of it.
type changeBody struct {
	Note       string   `json:"note"`
	Overlap    span     `json:"overlap"`
	UntilUsed  bool     `json:"until_used"`
	Expires    moment   `json:"expires_at"`
	TTL        span     `json:"ttl"`
	Scopes     []string `json:"scopes"`
	AllowedIPs []string `json:"allowed_ips"`
	Cascade    bool     `json:"cascade"`
}

// changeFields are the members that a change's body may have.
var changeFields = map[string][]string{
	credential.KindRotate:  {"overlap", "until_used"},
	credential.KindSuspend: {"note", "cascade"},
	credential.KindResume:  {"note"},
	credential.KindExtend:  {"note", "expires_at", "ttl"},
	credential.KindNarrow:  {"note", "scopes", "allowed_ips", "expires_at"},
	credential.KindRevoke:  {"note"},
}

// defaultOverlap is how long the key before goes on where a rotation does not
// say.
const defaultOverlap = 24 * time.Hour

func (c *call) changeCredential(kind string) error {
	var body changeBody
	if err := c.decode(&body, changeFields[kind]...); err != nil {
		return err
	}
	edit, err := c.edit(body.Note)
	if err != nil {
		return err
	}
	row, key, err := c.apply(kind, c.r.PathValue("id"), edit, body)
	if err != nil {
		return err
	}
	v := c.view(row)
	v.Key = key.Reveal()
	if body.Cascade {
		ctx, cancel := c.lasting()
		defer cancel()
		owed, err := c.office.cascade(ctx, row.ID, "its credential was suspended")
		if err != nil {
			return fmt.Errorf("the credential is suspended, but its tokens are not marked for deletion; suspend it again: %w", err)
		}
		v.Owed = &owed
	}
	c.tag(row)
	return c.reply(http.StatusOK, v)
}

// apply makes one change.
func (c *call) apply(kind, id string, edit credential.Edit, body changeBody) (row store.Credential, key credential.Key, err error) {
	if err := body.TTL.positive("ttl"); err != nil {
		return row, key, err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	row, err = c.office.change(func(r *credential.Registry) (store.Credential, error) {
		switch kind {
		case credential.KindRotate:
			overlap := body.Overlap.Duration
			if !body.Overlap.given && !body.UntilUsed {
				overlap = defaultOverlap
			}
			var err error
			row, key, err = r.Rotate(ctx, id, credential.Rotation{Overlap: overlap, UntilUsed: body.UntilUsed, By: edit.By, If: edit.If})
			return row, err
		case credential.KindSuspend:
			return r.Suspend(ctx, id, edit)
		case credential.KindResume:
			return r.Resume(ctx, id, edit)
		case credential.KindExtend:
			return r.Extend(ctx, id, edit, credential.Extension{Expires: body.Expires.Time, TTL: body.TTL.Duration})
		case credential.KindNarrow:
			return r.Narrow(ctx, id, edit, credential.Narrowing{Scopes: body.Scopes, AllowedIPs: body.AllowedIPs, Expires: body.Expires.Time})
		default:
			return r.Revoke(ctx, id, edit)
		}
	})
	return row, key, err
}
