package scopegate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/scopegate/scopegate/limits"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/tokens"
	"github.com/scopegate/scopegate/upstream"
)

// whoami is the gateway's own operation: what the caller's credential is and
// may do.
var whoami = scopes.Local("whoami", http.MethodGet, "/_scopegate/v1/whoami")

// Header values that never change, kept so that no request makes them anew.
var (
	noStore = []string{"no-store"}
	noSniff = []string{"nosniff"}
	asJSON  = []string{"application/json"}

	asProblem = []string{"application/problem+json"}
)

// answer passes the upstream's answer on: step 8. Only the mint answer is
// relayed whole among those of the token API; the others are rebuilt. It
// reports whether the caller got all of it.
func (q *request) answer(resp *upstream.Response) (complete bool) {
	ok := resp.Status >= 200 && resp.Status < 300
	switch {
	case ok && q.match.Operation.ID == scopes.ListTokens:
		return q.answerList(resp)
	case q.match.Operation.ID == scopes.GetToken, q.match.Operation.ID == scopes.RevokeToken:
		return q.answerToken(resp)
	case ok && q.match.Operation.ID == scopes.CreateToken:
		return q.answerMint(resp)
	case q.match.Operation.ID == scopes.CreateToken:
		// Refused as it was asked for: there is no token.
		q.drop()
	}
	return q.relay(resp)
}

// rebuilt answers with a body made here, or with 502 where the upstream's was
// not understood: an unknown shape may hold anything.
func (q *request) rebuilt(resp *upstream.Response, body []byte, err error) bool {
	if err != nil {
		q.answerFailure(refuseUnread(err).of(resp))
		return false
	}
	return q.reply(resp.Status, asJSON, body)
}

// relay streams an answer through. Where it breaks off, so does ours: a
// caller must never take half an answer for the whole.
func (q *request) relay(resp *upstream.Response) bool {
	h := q.w.Header()
	if resp.RetryAfter != "" {
		h["Retry-After"] = []string{resp.RetryAfter}
	}
	kind := q.one(contentType(resp))
	if body, ok := resp.Whole(); ok {
		return q.reply(resp.Status, kind, body)
	}
	h["Content-Type"] = kind
	if resp.ContentLength >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(resp.ContentLength, 10)}
	}
	q.commonHeaders(h)
	q.status = resp.Status
	q.w.WriteHeader(resp.Status)
	var err error
	if q.written, err = copyBody(q.w, resp); err == nil {
		return true
	}
	q.reason = policy.ClientGone
	if e := new(upstream.Error); errors.As(err, &e) {
		q.reason = e.Reason
	}
	panic(http.ErrAbortHandler)
}

// maxTokenAnswer bounds an answer about one token, in bytes.
const maxTokenAnswer = 64 << 10

// readWhole reads an answer about one token, of which nothing is passed on
// before all of it was understood.
func readWhole(resp *upstream.Response) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenAnswer+1))
	if err == nil && len(body) > maxTokenAnswer {
		err = tokens.ErrTooLarge
	}
	return body, err
}

// contentType is what upstream says, or what browsers do not look into.
func contentType(resp *upstream.Response) string {
	return cmp.Or(resp.ContentType, "application/octet-stream")
}

// buffers are what answers are copied through.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// copyBody copies an answer as it comes. One whose length is not known may be
// a slow stream, so each piece is sent on at once.
func copyBody(w http.ResponseWriter, resp *upstream.Response) (written int64, err error) {
	buf := buffers.Get().(*[32 << 10]byte) //nolint:forcetypeassert // only these are stored in it
	defer buffers.Put(buf)
	var flush func() error
	if resp.ContentLength < 0 {
		flush = http.NewResponseController(w).Flush
	}
	for {
		n, readErr := resp.Body.Read(buf[:])
		if n > 0 {
			m, err := w.Write(buf[:n])
			written += int64(m)
			if err != nil {
				return written, err
			}
			if flush != nil {
				_ = flush()
			}
		}
		switch {
		case readErr == io.EOF:
			return written, nil
		case readErr != nil:
			return written, readErr
		}
	}
}

// reply writes a whole answer.
func (q *request) reply(status int, contentType []string, body []byte) bool {
	h := q.w.Header()
	h["Content-Type"] = contentType
	if len(body) > countedAlready {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	q.commonHeaders(h)
	q.status = status
	q.w.WriteHeader(status)
	n, err := q.w.Write(body)
	q.written = int64(n)
	if err != nil {
		q.reason = policy.ClientGone
	}
	return err == nil
}

// countedAlready is up to how many bytes net/http finds a body's length out by
// itself. A permitted answer has eight headers without it and Caddy's own
// Server, and eight is what a map of Go holds before it grows to a table, which
// net/http then copies: the ninth costs more than the eight.
const countedAlready = 2 << 10

// commonHeaders sets what every answer carries.
func (q *request) commonHeaders(h http.Header) {
	delete(h, "Server")
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	if q.id != "" {
		h["Scopegate-Decision-Id"] = q.one(q.id)
	}
}

// answerFailure writes a refusal as problem+json.
func (q *request) answerFailure(no *refusal) {
	q.reason = no.reason
	why := because{reason: no.reason}
	if no.reason == policy.InsufficientScope {
		why.scope = q.match.Operation.ScopeName()
	}
	no.headers(q, why)
	q.reply(statusOf(no.reason), asProblem, no.body(q.id, why))
}

// encode writes an answer of our own. It leaves < and > as they are: no
// browser takes JSON for a page, and people read these texts.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // strings, numbers and times alone
	}
	return b.Bytes()
}

// identityView is what a caller is told of itself.
type identityView struct {
	Gateway         string     `json:"gateway"`
	Team            string     `json:"team"`
	Credential      string     `json:"credential"`
	Name            string     `json:"name"`
	Expires         *time.Time `json:"expires,omitempty"`
	Scopes          []string   `json:"scopes"`
	MintableScopes  []string   `json:"mintable_scopes"`
	MintAllowedIPs  []string   `json:"mint_allowed_ips,omitempty"`
	MintMaxTTL      string     `json:"mint_max_ttl,omitempty"`
	MemberPasswords bool       `json:"member_passwords"`
	Limits          limitsView `json:"limits"`
	Catalogue       string     `json:"catalogue"`
}

type limitsView struct {
	Team       limitView `json:"team"`
	Credential limitView `json:"credential"`
}

type limitView struct {
	Requests    int    `json:"requests,omitempty"`
	Window      string `json:"window,omitempty"`
	Burst       int    `json:"burst,omitempty"`
	MaxInFlight int    `json:"max_in_flight,omitempty"`
}

// answerWhoami answers the gateway's own operation.
func (q *request) answerWhoami() *refusal {
	id := &q.caller.Identity
	view := identityView{
		Gateway: q.g.Name, Team: id.Team.Name, Credential: id.Credential, Name: q.g.name(id),
		Scopes: id.Scopes.Names(), MintableScopes: id.Mintable().Names(),
		MemberPasswords: id.Team.MemberPasswords, Catalogue: scopes.Version(),
		Limits: limitsView{
			Team:       q.g.rules.limitView(id.Team.Name, ""),
			Credential: q.g.rules.limitView(id.Team.Name, cmp.Or(id.Name, limits.Each)),
		},
	}
	if !id.Expires.IsZero() {
		view.Expires = &id.Expires
	}
	if m := id.Team.Mint; m != nil {
		view.MintMaxTTL = m.MaxTTL.String()
		view.MintAllowedIPs = []string{"any"}
		if !m.AnyIP {
			view.MintAllowedIPs = nil
			for _, p := range m.AllowedIPs {
				view.MintAllowedIPs = append(view.MintAllowedIPs, p.String())
			}
		}
	}
	return q.answerHere(func() bool { return q.reply(http.StatusOK, asJSON, encode(view)) })
}

// serveProbe answers the two probes, which need no credential and tell no
// detail. Ready means that the master token is loaded, the audit log can be
// written and the store was heard from within its grace, never that the upstream answers: a fleet must not take itself
// out of service when GoodAccess is down.
func (g *Gateway) serveProbe(w http.ResponseWriter, r *http.Request) bool {
	ready := true
	switch r.URL.EscapedPath() {
	case "/_scopegate/livez":
	case "/_scopegate/readyz":
		ready = g.forward.Ready() == nil && g.log.Healthy() == nil && g.room.fresh(time.Now())
	default:
		return false
	}
	h := w.Header()
	h["Cache-Control"], h["Content-Type"] = noStore, []string{"text/plain; charset=utf-8"}
	status, body := http.StatusOK, "ok\n"
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		status, body = http.StatusMethodNotAllowed, "method not allowed\n"
	case !ready:
		status, body = http.StatusServiceUnavailable, "not ready\n"
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
	return true
}
