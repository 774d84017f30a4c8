package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// mint is the body of a request for a token that carries the given scopes.
func (d *demo) mint(scopes ...string) string {
	body, err := json.Marshal(map[string]any{
		"name":           "nightly-report",
		"allowed_scopes": scopes,
		"allowed_ips":    []string{"203.0.113.10"},
		"expires_at":     time.Now().UTC().Add(7 * 24 * time.Hour).Format(time.DateTime),
	})
	if err != nil {
		panic(err) // strings alone
	}
	return string(body)
}

// step is one call of the tour, and what has to come of it.
type step struct {
	what   string
	method string
	url    string
	bearer string // the key itself, never printed
	as     string // what is printed in its place
	body   string
	header []string
	status int
	answer string // has to occur in the answer
}

// tour makes the calls that the demo invites to, and a few that an attacker
// would, and fails at the first that does not come out as it should.
func (d *demo) tour(ctx context.Context, w io.Writer) error {
	billing, monitoring := d.keys["billing"].Reveal(), d.keys["monitoring"].Reveal()
	api := d.gateway + "/api/v1"
	var token string
	steps := []step{
		{
			what: "a permitted call", method: "GET", url: api + "/members",
			bearer: billing, as: "billing's key", status: 200, answer: `"id"`,
		},
		{
			what: "no key", method: "GET", url: api + "/members",
			status: 401, answer: "no_credential",
		},
		{
			what: "a call that the team's scopes do not permit", method: "DELETE",
			url:    api + "/member/3f0c6a52-8d1e-4b7a-9c55-000000000001",
			bearer: monitoring, as: "monitoring's key", status: 403, answer: "insufficient_scope",
		},
		{
			what: "a refused mint: it asks for a scope beyond the grant", method: "POST", url: api + "/token",
			bearer: billing, as: "billing's key", body: d.mint("members.read-all", "members.delete"),
			status: 403, answer: "mint_scopes",
		},
		{
			what: "an accepted mint", method: "POST", url: api + "/token",
			bearer: billing, as: "billing's key", body: d.mint("members.read-all"),
			status: 200, answer: "created_id",
		},
		{
			what: "what a credential may do", method: "GET", url: d.gateway + "/_scopegate/v1/whoami",
			bearer: monitoring, as: "monitoring's key", status: 200, answer: `"team":"monitoring"`,
		},
	}
	for i, s := range steps {
		answer, err := d.take(ctx, w, i+1, s)
		if err != nil {
			return err
		}
		if s.what == "an accepted mint" {
			if token, err = secretIn(answer); err != nil {
				return err
			}
		}
	}
	// The minted token works at GoodAccess itself, from the address that it
	// is bound to, and there only for what it carries.
	from := []string{"X-Forwarded-For", "203.0.113.10"}
	for i, s := range []step{
		{
			what: "the minted token, at GoodAccess itself", method: "GET", url: d.simulator + "/api/v1/members",
			bearer: token, as: "the minted token", header: from, status: 200, answer: `"id"`,
		},
		{
			what: "the minted token does no more than it carries", method: "GET", url: d.simulator + "/api/v1/tokens",
			bearer: token, as: "the minted token", header: from, status: 403,
		},
	} {
		if _, err := d.take(ctx, w, len(steps)+i+1, s); err != nil {
			return err
		}
	}
	if err := d.showAudit(w, token); err != nil {
		return err
	}
	return d.showMetrics(ctx, w)
}

func (d *demo) take(ctx context.Context, w io.Writer, n int, s step) ([]byte, error) {
	fmt.Fprintf(w, "%d. %s\n   %s %s", n, s.what, s.method, s.url)
	if s.as != "" {
		fmt.Fprintf(w, "  (%s)", s.as)
	}
	fmt.Fprintln(w)
	var body io.Reader
	if s.body != "" {
		fmt.Fprintf(w, "   %s\n", s.body)
		body = strings.NewReader(s.body)
	}
	status, answer, err := d.call(ctx, s.method, s.url, s.bearer, body, s.header...)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(w, "   -> %d %s\n\n", status, shorten(answer))
	if status != s.status || !bytes.Contains(answer, []byte(s.answer)) {
		return nil, fmt.Errorf("step %d (%s): expected status %d and %q in the answer", n, s.what, s.status, s.answer)
	}
	return answer, nil
}

func shorten(answer []byte) string {
	const most = 400
	text := strings.TrimSpace(string(answer))
	if len(text) > most {
		return text[:most] + " ..."
	}
	return text
}

// secretIn finds the secret in the answer of a mint. How GoodAccess names the
// field is not documented; the simulator says token.
func secretIn(answer []byte) (string, error) {
	var made struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(answer, &made); err != nil || made.Token == "" {
		return "", errors.New("the answer of the mint holds no token")
	}
	return made.Token, nil
}

// showAudit prints the records of the accepted mint, which never hold the
// secret.
func (d *demo) showAudit(w io.Writer, secret string) error {
	log, err := os.ReadFile(d.auditFile)
	if err != nil {
		return err
	}
	if bytes.Contains(log, []byte(secret)) {
		return errors.New("the audit log holds the minted token")
	}
	fmt.Fprintln(w, "the audit records of the accepted mint:")
	found := 0
	for line := range bytes.Lines(log) {
		var r struct{ Operation, Decision string }
		if json.Unmarshal(line, &r) == nil && r.Operation == "createToken" && r.Decision == "allow" {
			fmt.Fprintf(w, "   %s", line)
			found++
		}
	}
	fmt.Fprintln(w)
	if found != 2 {
		return fmt.Errorf("expected two audit records of the accepted mint, found %d", found)
	}
	return nil
}

func (d *demo) showMetrics(ctx context.Context, w io.Writer) error {
	status, answer, err := d.call(ctx, http.MethodGet, d.metrics+"/metrics", "", nil)
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "some of the metrics:")
	found := 0
	for line := range bytes.Lines(answer) {
		if bytes.HasPrefix(line, []byte("scopegate_requests_total")) || bytes.HasPrefix(line, []byte("scopegate_mints_total")) {
			fmt.Fprintf(w, "   %s", line)
			found++
		}
	}
	if status != http.StatusOK || found == 0 {
		return errors.New("the metrics show no request of this gateway")
	}
	fmt.Fprintln(w, "\neverything came out as it should")
	return nil
}
