package scopegate

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/scopegate/scopegate/fleet"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/store"
)

// healthCheck is one thing that has to be well.
type healthCheck struct {
	Check   string `json:"check"`
	OK      bool   `json:"ok"`
	Problem string `json:"problem,omitempty"`
}

var errSkewed = errors.New("the store's clock and the local one differ by more than 5 seconds; no tokens are made")

// health says what keeps the gateway from serving, or from all it does.
func (g *Gateway) health() []healthCheck {
	var list []healthCheck
	add := func(check string, err error) {
		one := healthCheck{Check: check, OK: err == nil}
		if err != nil {
			one.Problem = err.Error()
		}
		list = append(list, one)
	}
	add("upstream", g.forward.Ready())
	add("audit", g.log.Healthy())
	if g.room != nil {
		var away, skewed error
		if !g.room.member.Reachable() {
			away = errStoreAway
		}
		if g.room.member.Skewed() {
			skewed = errSkewed
		}
		add("store", away)
		add("clock", skewed)
	}
	return list
}

func (c *call) showHealth() error {
	g, err := c.running()
	if err != nil {
		return err
	}
	answer := struct {
		OK     bool          `json:"ok"`
		Checks []healthCheck `json:"checks"`
	}{OK: true, Checks: g.health()}
	for _, one := range answer.Checks {
		answer.OK = answer.OK && one.OK
	}
	return c.reply(http.StatusOK, answer)
}

type teamStatus struct {
	Name        string             `json:"name"`
	Scopes      []string           `json:"scopes"`
	Mintable    []string           `json:"mintable_scopes"`
	Credentials []credentialStatus `json:"credentials"` // of the configuration
	Max         int                `json:"max_credentials"`
	MaxTTL      string             `json:"max_credential_ttl,omitempty"`
}

type credentialStatus struct {
	Name   string   `json:"name"`
	IDs    []string `json:"ids"`
	State  string   `json:"state"`
	Scopes []string `json:"scopes"`
}

func (c *compiled) teamNames() []string {
	var names []string
	for _, t := range c.teams {
		names = append(names, t.Name)
	}
	return names
}

// teamStatuses shows the teams and their static credentials.
func (c *compiled) teamStatuses() []teamStatus {
	list := []teamStatus{}
	for _, t := range c.teams {
		list = append(list, c.teamStatus(t))
	}
	return list
}

func (c *compiled) teamStatus(t *policy.Team) teamStatus {
	rules := c.lives[t.Name]
	team := teamStatus{
		Name: t.Name, Scopes: t.Scopes.Names(), Mintable: []string{}, Credentials: []credentialStatus{}, Max: rules.MaxCredentials,
	}
	if rules.MaxTTL > 0 {
		team.MaxTTL = rules.MaxTTL.String()
	}
	if t.Mint != nil {
		team.Mintable = t.Mint.Scopes.Names()
	}
	for _, one := range c.credentials {
		if one.Identity.Team != t {
			continue
		}
		status := credentialStatus{Name: one.Identity.Name, State: one.State.String(), Scopes: one.Identity.Scopes.Names()}
		for _, v := range one.Verifiers {
			status.IDs = append(status.IDs, v.ID)
		}
		team.Credentials = append(team.Credentials, status)
	}
	return team
}

func (c *call) listTeams() error {
	return c.reply(http.StatusOK, map[string]any{"teams": c.office.compiled().teamStatuses()})
}

func (c *call) showTeam() error {
	name, rules := c.r.PathValue("team"), c.office.compiled()
	for _, t := range rules.teams {
		if t.Name == name {
			return c.reply(http.StatusOK, rules.teamStatus(t))
		}
	}
	return missing(kindUnknownTeam, "there is no team %s", name, rules.teamNames())
}

// replicaView is a process that serves the gateway.
type replicaView struct {
	ID       string    `json:"id"`
	Host     string    `json:"host"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started_at"`
	Revision int64     `json:"revision"` // up to which it has seen the changes
	Beat     time.Time `json:"heard_at"`
}

func viewReplicas(list []store.Replica) []replicaView {
	views := []replicaView{}
	for _, r := range list {
		views = append(views, replicaView{r.ID, r.Host, r.Version, r.Started, r.Revision, r.Beat})
	}
	return views
}

func (c *call) listReplicas() error {
	list, now, err := c.office.replicas(c.r.Context())
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, map[string]any{"replicas": viewReplicas(list), "now": now})
}

type reportView struct {
	Revision int64         `json:"revision"`
	Done     bool          `json:"done"`
	Seen     []replicaView `json:"seen"`
	Waiting  []replicaView `json:"waiting"`
	RanOut   []replicaView `json:"ran_out"`
	Left     float64       `json:"left_seconds"`
}

// wait answers with a line of JSON whenever the report has changed. The last
// one is done, or a problem.
func (c *call) wait() error {
	var body struct {
		Revision int64 `json:"revision"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if body.Revision <= 0 {
		return badRequest("revision", "expected the revision that a change answered with")
	}
	begun := false
	enc, flush := json.NewEncoder(c.w), http.NewResponseController(c.w)
	_, err := c.office.wait(c.r.Context(), body.Revision, func(r fleet.Report) {
		if !begun {
			begun = true
			c.w.Header().Set("Content-Type", "application/x-ndjson")
			c.w.WriteHeader(http.StatusOK)
		}
		_ = enc.Encode(reportView{
			r.Revision, r.Done(), viewReplicas(r.Seen), viewReplicas(r.Waiting), viewReplicas(r.RanOut), r.Left.Seconds(),
		}) // only the connection can fail: then nobody reads it
		_ = flush.Flush()
	})
	if err != nil && begun {
		_ = enc.Encode(c.problem(err))
		return nil
	}
	return err
}

// replicas are the processes that serve the gateway, and the store's time.
func (g *Gateway) replicas(ctx context.Context) ([]store.Replica, time.Time, error) {
	if g.room == nil {
		return nil, time.Time{}, errNoStore
	}
	return g.room.rows.Replicas(ctx)
}

// wait returns once every replica has seen a revision or serves no more.
func (g *Gateway) wait(ctx context.Context, revision int64, progress func(fleet.Report)) (fleet.Report, error) {
	if g.room == nil {
		return fleet.Report{}, errNoStore
	}
	return g.room.member.Wait(ctx, revision, progress)
}
