package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"

	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/simulator"
)

// shape is a form that upstream's list may have.
type shape struct{ name, open, end string }

var shapes = []shape{
	{"[...]", `[`, `]`},
	{`{"data":[...]}`, `{"data":[`, `]}`},
	{`{"items":[...]}`, `{"items":[`, `]}`},
}

func (s shape) wrap(elements []byte) []byte {
	return append(append([]byte(s.open), elements...), s.end...)
}

// unwrap returns the tokens of a list that has the shape.
func (s shape) unwrap(body []byte) (list []json.RawMessage, err error) {
	inner, begins := bytes.CutPrefix(body, []byte(s.open[:len(s.open)-1]))
	inner, ends := bytes.CutSuffix(inner, []byte(s.end[1:]))
	if !begins || !ends {
		return nil, fmt.Errorf("the list is not of the form %s", s.name)
	}
	return list, json.Unmarshal(inner, &list)
}

// account is what upstream has of tokens: as many as there are to be, the
// caller's own among them at equal distances.
type account struct {
	all, own []byte                 // the elements of such a list, and the own alone
	answer   atomic.Pointer[[]byte] // to a list of tokens, and to one of members
}

// fill takes over an API's lists of tokens and members.
func fill(ctx context.Context, api *simulator.Simulator, own map[string]bool, n int) (*account, error) {
	listed, err := tokensOf(ctx, api)
	if err != nil {
		return nil, err
	}
	var mine [][]byte
	for _, token := range listed {
		if own[idOf(token)] {
			mine = append(mine, token)
		}
	}
	if len(mine) != len(own) {
		return nil, fmt.Errorf("upstream lists %d of the %d tokens that were made", len(mine), len(own))
	}
	a, every := &account{own: bytes.Join(mine, []byte{','})}, n/len(mine)
	for i := range n {
		if i > 0 {
			a.all = append(a.all, ',')
		}
		if at := i / every; i%every == 0 && at < len(mine) {
			a.all = append(a.all, mine[at]...)
			continue
		}
		a.all = fmt.Appendf(a.all, `{"id":"3f0c6a52-8d1e-4b7a-9c55-%012x","name":"nightly export %d-sg-zzzzzzz2-qqqqqqq3-aaaabbbbccccddddeeee-ffffgggghhhhiiii",`+
			`"created_at":"2026-01-31 10:00:00","expires_at":"2027-01-31 23:59:59","allowed_ips":["203.0.113.10","203.0.113.11"],`+
			`"allowed_scopes":["members.read","members.read-all"]}`, i, i)
	}
	for _, operation := range []string{scopes.ListTokens, "listMembers"} {
		api.Fail(simulator.Fault{Operation: operation, Effect: func(w http.ResponseWriter, _ *http.Request, _ func() simulator.Answer) {
			simulator.Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: *a.answer.Load()}.Send(w)
		}})
	}
	return a, nil
}

// tokensOf asks upstream itself for its tokens.
func tokensOf(ctx context.Context, api *simulator.Simulator) (list []json.RawMessage, err error) {
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/tokens", http.NoBody)
	req.Header.Set("Authorization", "Bearer "+api.Master())
	got := httptest.NewRecorder()
	api.ServeHTTP(got, req)
	if got.Code != http.StatusOK {
		return nil, fmt.Errorf("upstream lists its tokens with status %d", got.Code)
	}
	return list, json.Unmarshal(got.Body.Bytes(), &list)
}

func idOf(token json.RawMessage) string {
	var t struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(token, &t) // then it has no id
	return t.ID
}
