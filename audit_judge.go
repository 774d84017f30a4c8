package scopegate

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/audit/query"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
)

// What a record does not hold, and a verdict may depend on.
const (
	gapCaller     = "who asked: nobody was identified, and keys are not recorded"
	gapPath       = "the path: none of the operations was named"
	gapBody       = "the body"
	gapReason     = "why it was refused, in a word of this version"
	gapLimits     = "how full the limits were"
	gapCredential = "what the credential narrows: it is stored, not configured"
)

// judge decides recorded requests by a configuration, as a gateway that runs it
// would, as far as the records hold what that depends on.
type judge struct {
	rules   *compiled
	teams   map[string]*policy.Team
	matches map[string]scopes.Match // by the operation's id
	stored  bool                    // there may be credentials besides the configured ones
	reasons map[string]policy.Reason
}

func newJudge(g *Gateway, rules *compiled) *judge {
	j := &judge{
		rules: rules, teams: map[string]*policy.Team{}, matches: map[string]scopes.Match{}, reasons: map[string]policy.Reason{},
		stored: g.Store == nil || g.Store.Driver != storeNone,
	}
	for _, t := range rules.teams {
		j.teams[t.Name] = t
	}
	// The catalogue's own too: one may stand here as what an operator added in
	// its place, under another id.
	for _, op := range slices.Concat(catalogued(), rules.router.Operations()) {
		j.matches[op.ID] = rules.router.Match(op.Method, aPath(op.Path))
	}
	for _, r := range policy.Reasons() {
		j.reasons[r.String()] = r
	}
	return j
}

var placeInPath = regexp.MustCompile(`\{[^}]*\}`)

// aPath is a path of an operation, with an id that is of every form.
func aPath(template string) string {
	return placeInPath.ReplaceAllString(template, "00000000-0000-4000-8000-000000000000")
}

// match finds what a recorded operation is today: by its path, which the id of
// one that an operator added has in it.
func (j *judge) match(id string) scopes.Match {
	if m, ok := j.matches[id]; ok {
		return m
	}
	method, path, _ := strings.Cut(strings.TrimPrefix(id, scopes.AddedPrefix), " ")
	return j.rules.router.Match(method, aPath(path))
}

// ruling is what a configuration says of a recorded request.
type ruling struct {
	reason policy.Reason
	gap    string // what the record lacks; then there is no reason
}

func is(r policy.Reason) ruling    { return ruling{reason: r} }
func unknownFor(gap string) ruling { return ruling{gap: gap} }

// rule walks the same steps as a request, with the same functions. Where it
// comes to one that the record does not hold enough for, it says so: a request
// that is refused before is refused for certain.
func (j *judge) rule(e *query.Entry) ruling {
	if !e.Has(query.Team) {
		return unknownFor(gapCaller)
	}
	team := j.teams[e.Text(query.Team)]
	if team == nil {
		return is(policy.TeamGone)
	}
	var held credential.Credential
	found, _ := j.rules.static.Find(e.Text(query.Credential), &held) // it never fails
	id := &held.Identity
	switch {
	case found == credential.Configured:
		if reason := held.Standing(e.Time()); reason != policy.Allowed {
			return is(reason)
		}
	case !j.stored:
		return is(policy.UnknownCredential)
	default:
		// It can only narrow its team: what the team may not, it may not.
		id = &policy.Identity{Team: team, Scopes: team.Scopes}
	}
	m := scopes.Match{}
	if e.Has(query.Operation) {
		m = j.match(e.Text(query.Operation))
	}
	d := policy.Decide(id, m, policy.Facts{Client: e.Client(), Limit: policy.Allowed, Now: e.Time()})
	switch {
	case !e.Has(query.Operation) && d.Reason != policy.ClientAddress:
		return unknownFor(gapPath)
	case !d.Allow():
		return is(d.Reason)
	}
	allowed := e.Is(query.Decision, string(audit.Allow))
	r := j.body(e, m.Operation, id, allowed)
	enforced := r.reason == policy.Allowed && !e.Time().Before(team.ShadowUntil)
	switch would := j.reasons[e.Text(query.WouldDeny)]; {
	case enforced && (would == policy.RateLimited || would == policy.TooManyInFlight):
		return unknownFor(gapLimits)
	case enforced && (!allowed || would != policy.Undecided) && found != credential.Configured:
		return unknownFor(gapCredential)
	}
	return r
}

// body goes on with a request that may be made, if its body and the state of
// the gateway permit.
func (j *judge) body(e *query.Entry, op *scopes.Operation, id *policy.Identity, allowed bool) ruling {
	was := j.reasons[e.Text(query.Reason)]
	if !allowed {
		switch was {
		case policy.RateLimited, policy.TooManyInFlight, policy.MintQuota, policy.MintDailyQuota:
			return unknownFor(gapLimits)
		case policy.MemberPassword:
			return is(policy.DecideBody(id, true))
		case policy.Undecided:
			return unknownFor(gapReason)
		case policy.ClientAddress, policy.UnknownPath, policy.MethodNotAllowed, policy.OperationOff, policy.InsufficientScope,
			policy.MintNotGranted, policy.MintScopes, policy.MintExpiry, policy.MintAddresses:
			// The configuration's own, which are judged again.
		default:
			return is(was) // no configuration changes it
		}
	}
	switch {
	case op.Body == scopes.TokenBody:
		return j.mint(e, op, id)
	case op.Body == scopes.MemberBody && !id.Team.MemberPasswords:
		return unknownFor(gapBody + ": whether it set a password")
	}
	return is(policy.Allowed)
}

// mint asks again for the token that was made. What was asked for and refused,
// or narrowed, is recorded only in part.
func (j *judge) mint(e *query.Entry, op *scopes.Operation, id *policy.Identity) ruling {
	if id.Team.Mint == nil {
		return is(policy.MintNotGranted)
	}
	if !e.Has(query.GrantedScopes) {
		return j.refusedMint(e.List(query.RequestedScopes), id)
	}
	clamped := e.List(query.Clamped)
	if slices.ContainsFunc(clamped, func(field string) bool { return field != "allowed_scopes" }) && !id.Team.Mint.Clamp {
		return unknownFor(gapBody + ": what was asked for before it was narrowed")
	}
	if _, no := j.rules.shape(op, id, recordedMint(e), e.Time()); no != nil {
		return is(no.reason)
	}
	return is(policy.Allowed)
}

// recordedMint is the body of a mint, as far as it is recorded: what was asked
// for where that could be had, and what was granted else.
func recordedMint(e *query.Entry) []byte {
	body, err := json.Marshal(map[string]any{
		"name": "replayed", "allowed_scopes": e.List(query.RequestedScopes),
		"allowed_ips": e.List(query.AllowedIPs), "expires_at": e.Text(query.ExpiresAt),
	})
	if err != nil {
		return nil // texts alone: there is none
	}
	return body
}

// refusedMint knows of a mint that was refused no more than its scopes, if
// these are why.
func (j *judge) refusedMint(requested []string, id *policy.Identity) ruling {
	for _, name := range requested {
		s, err := scopes.Parse(name)
		if err == nil && !id.Mintable().Has(s) && !id.Team.Mint.Clamp {
			return is(policy.MintScopes)
		}
	}
	return unknownFor(gapBody)
}
