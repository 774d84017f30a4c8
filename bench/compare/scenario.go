package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// scenario is what is asked, and of whom.
type scenario struct {
	name    string
	title   string
	entries []entry // the first is the yardstick
	load    func(s settings) (conns, rate int)
	secure  bool
	list    int  // how many tokens and members upstream lists, 0 for its own
	audited bool // the gateway has two records of each request
}

// entry is one contender's part in a scenario.
type entry struct {
	contender contender
	// how tells two parts of one contender apart.
	how    string
	ask    func(r ring) request
	status int
	// check looks at one answer; where it is not nil, all have to be the same.
	check func(w *world, body []byte) error
}

// name is the entry's, in tables.
func (e entry) name() string {
	if e.how == "" {
		return e.contender.name
	}
	return e.contender.name + ", " + e.how
}

// ownTokens is how many tokens the caller has among those that are listed.
const ownTokens = 5

func scenarios() []scenario {
	gets := every(permitted, bare, logged, keyed, keyedLog, byHand, nginx, haproxy, scopegate)
	yardstick := permitted(bare)
	yardstick.how = "permitted"
	list := func(name, title string, n int) scenario {
		return scenario{
			name: name, title: title, load: one, list: n, entries: []entry{
				passedOn(bare), passedOn(scopegate),
				{contender: scopegate, how: "filtered", ask: get(tokensPath), status: http.StatusOK, check: (*world).checkOwn},
			},
		}
	}
	return []scenario{
		{name: "get", title: "A permitted GET", load: many, audited: true, entries: append(slices.Clone(gets), every(permitted, relaxed, within)...)},
		{name: "get-1", title: "A permitted GET on one connection", load: one, audited: true, entries: gets},
		{name: "get-rate", title: "A permitted GET at a fixed rate", load: steady, audited: true, entries: gets},
		{name: "denied-key", title: "A key that nobody knows", load: many, entries: append([]entry{yardstick}, every(func(c contender) entry {
			return entry{contender: c, status: http.StatusUnauthorized, ask: func(r ring) request {
				return request{http.MethodGet, memberPath, r.stranger.Reveal(), ""}
			}}
		}, keyed, byHand, nginx, haproxy, scopegate)...)},
		{name: "denied-scope", title: "A scope that the caller does not have", load: many, entries: []entry{
			yardstick, {contender: scopegate, ask: get(systemsPath), status: http.StatusForbidden},
		}},
		{name: "mint", title: "A new upstream token", load: many, entries: []entry{
			{contender: bare, status: http.StatusOK, ask: func(ring) request { return mint(master) }},
			{contender: scopegate, status: http.StatusOK, ask: func(r ring) request { return mint(r.caller().Reveal()) }},
		}},
		list("list-10", "A list of 10 tokens", 10),
		list("list-10k", "A list of 10,000 tokens", 10_000),
		list("list-100k", "A list of 100,000 tokens", 100_000),
		{
			name: "http2", title: "A permitted GET over HTTP/2 and TLS on both sides", load: many, secure: true, audited: true,
			entries: every(permitted, bare, byHand, haproxy, scopegate),
		},
	}
}

func scenarioNames() (names []string) {
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

func many(s settings) (conns, rate int)   { return s.conns, 0 }
func one(settings) (conns, rate int)      { return 1, 0 }
func steady(s settings) (conns, rate int) { return s.conns, s.rate }

// every makes an entry of each contender.
func every(of func(c contender) entry, list ...contender) (entries []entry) {
	for _, c := range list {
		entries = append(entries, of(c))
	}
	return entries
}

func permitted(c contender) entry {
	return entry{contender: c, ask: get(memberPath), status: http.StatusOK, check: func(_ *world, body []byte) error {
		if string(body) != member {
			return errors.New("the answer is not the upstream's")
		}
		return nil
	}}
}

// passedOn is a list that the proxy does not look into.
func passedOn(c contender) entry {
	return entry{contender: c, how: "passed on", ask: get(membersPath), status: http.StatusOK, check: func(w *world, body []byte) error {
		if len(body) != w.listed {
			return fmt.Errorf("the answer has %d bytes, not the %d of the upstream", len(body), w.listed)
		}
		return nil
	}}
}

func get(path string) func(r ring) request {
	return func(r ring) request { return request{http.MethodGet, path, r.caller().Reveal(), ""} }
}

// mint asks for a token. A bare proxy passes its caller's key on, which has to
// be the master token then.
func mint(key string) request {
	return request{http.MethodPost, tokenPath, key, fmt.Sprintf(
		`{"name":"nightly export","expires_at":%q,"allowed_ips":["198.51.100.7"],"allowed_scopes":["members.read-all"]}`,
		time.Now().UTC().AddDate(0, 0, 7).Format(time.DateTime))}
}

// checkOwn holds that a list has the caller's tokens and no other.
func (w *world) checkOwn(body []byte) error {
	var list []struct{ ID string }
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&list); err != nil {
		return err
	}
	var ids []string
	for _, token := range list {
		ids = append(ids, token.ID)
	}
	slices.Sort(ids)
	slices.Sort(w.own)
	if !slices.Equal(ids, w.own) {
		return fmt.Errorf("the answer has %d tokens, which are not the caller's %d", len(ids), len(w.own))
	}
	return nil
}
