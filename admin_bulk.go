package scopegate

import (
	"net/http"
	"slices"
	"strings"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/store"
)

// bulkKinds are the changes that make sense for many at once.
var bulkKinds = []string{credential.KindSuspend, credential.KindResume, credential.KindExtend, credential.KindRevoke}

// bulkStates are the credentials that a change is for where the filter says no
// state: one that is revoked already would only be told of as a failure.
var bulkStates = map[string][]string{
	credential.KindSuspend: {credential.Active.String()},
	credential.KindResume:  {credential.Suspended.String()},
	credential.KindExtend:  {credential.Active.String(), credential.Suspended.String()},
	credential.KindRevoke:  {credential.Active.String(), credential.Suspended.String()},
}

// maxBulk is how many credentials one call changes: a caller sees how far it
// has come, and what is half done can be told and repeated.
const maxBulk = 100

// bulkFilter chooses credentials, as the parameters of a list do.
type bulkFilter struct {
	Team          string   `json:"team"`
	States        []string `json:"state"`
	ExpiresBefore moment   `json:"expires_before"`
	CreatedBefore moment   `json:"created_before"`
	UsedBefore    moment   `json:"used_before"`
}

func (f bulkFilter) empty() bool {
	return f.Team == "" && len(f.States) == 0 && f.ExpiresBefore.IsZero() && f.CreatedBefore.IsZero() && f.UsedBefore.IsZero()
}

type bulkFailure struct {
	ID      string        `json:"id"`
	Problem *problemError `json:"problem"`
}

// bulk makes one change of a page of credentials. Each is a change and a record
// of its own. The answer says what was done and where the next page begins,
// which is the failure itself where the store or the log failed; to ask again
// with the same is safe.
func (c *call) bulk() error {
	var body struct {
		Change  string     `json:"change"`
		Filter  bulkFilter `json:"filter"`
		After   string     `json:"after"`
		Limit   int        `json:"limit"`
		DryRun  bool       `json:"dry_run"`
		Note    string     `json:"note"`
		Expires moment     `json:"expires_at"`
		TTL     span       `json:"ttl"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	switch {
	case !slices.Contains(bulkKinds, body.Change):
		return badRequest("change", "expected one of %s", strings.Join(bulkKinds, ", "))
	case body.Filter.empty():
		return badRequest("filter", "an empty filter would choose every credential of every team; name at least one thing")
	case body.Limit < 0 || body.Limit > maxBulk:
		return badRequest("limit", "expected a number from 1 to %d", maxBulk)
	case body.Change != credential.KindExtend && (!body.Expires.IsZero() || body.TTL.given):
		return badRequest("change", "expires_at and ttl belong to extend")
	}
	states, err := statesOf(body.Filter.States)
	if err != nil {
		return err
	}
	if states == nil {
		states = bulkStates[body.Change]
	}
	if err := c.knownTeam("filter.team", body.Filter.Team); err != nil {
		return err
	}
	edit, err := c.edit(body.Note)
	if err != nil {
		return err
	}
	filter := store.Filter{
		Team: body.Filter.Team, States: states, ExpiresBefore: body.Filter.ExpiresBefore.Time,
		CreatedBefore: body.Filter.CreatedBefore.Time, UsedBefore: body.Filter.UsedBefore.Time,
		After: body.After, Limit: body.Limit,
	}
	if filter.Limit == 0 {
		filter.Limit = maxBulk
	}
	answer := struct {
		Matched int           `json:"matched"`
		Done    []string      `json:"done"`
		Failed  []bulkFailure `json:"failed"`
		Next    string        `json:"next,omitempty"`
	}{Done: []string{}, Failed: []bulkFailure{}}
	var list []store.Credential
	err = c.office.read(func(r *credential.Registry) (err error) {
		list, answer.Next, err = r.List(c.r.Context(), filter)
		return err
	})
	if err != nil {
		return err
	}
	answer.Matched = len(list)
	if body.DryRun {
		list = nil
	}
	last := body.After
	for _, row := range list {
		_, _, err := c.apply(body.Change, row.ID, edit, changeBody{Note: body.Note, Expires: body.Expires, TTL: body.TTL})
		if err == nil {
			answer.Done, last = append(answer.Done, row.ID), row.ID
			continue
		}
		p := c.problem(err)
		answer.Failed = append(answer.Failed, bulkFailure{row.ID, p})
		if p.Status >= http.StatusInternalServerError {
			answer.Next = last // the others would fail as well, each after a while
			break
		}
		last = row.ID
	}
	return c.reply(http.StatusOK, answer)
}
