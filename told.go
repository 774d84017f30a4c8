package scopegate

import (
	"encoding/binary"
	"math/rand/v2"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/uuid"

	"github.com/scopegate/scopegate/policy"
)

// told is what Caddy may ask of a request, for headers and for its logs. They
// are written when the request itself has ended, so it is apart from it.
type told struct {
	id                                 string // the decision's
	team, credential, operation, scope string
	reason                             policy.Reason

	values [4]string // of the answer's headers that differ from request to request
	used   int
}

// one is a header's value in the form that net/http wants. It lies in told,
// since the header may outlive the request as well.
func (t *told) one(value string) []string {
	if t.used == len(t.values) {
		return []string{value}
	}
	i := t.used
	t.values[i] = value
	t.used++
	return t.values[i:t.used:t.used] // appending to it leaves the next alone
}

// userID is Caddy's own placeholder for who was authenticated.
const userID = "http.auth.user.id"

// placeholder answers Caddy when it asks, which it seldom does: nothing is made
// for it beforehand.
func (t *told) placeholder(key string) (any, bool) {
	switch key {
	case userID:
		return t.credential, t.credential != ""
	case "http.scopegate.decision_id":
		return t.id, true
	case "http.scopegate.team":
		return t.team, t.team != ""
	case "http.scopegate.operation":
		return t.operation, t.operation != ""
	case "http.scopegate.scope":
		return t.scope, t.operation != ""
	case "http.scopegate.reason":
		return t.reason.String(), true
	}
	return nil, false
}

// decisionID is the request's uuid in Caddy where Caddy has one: where the
// access log names it, or a handler before this one has asked for it. To ask
// costs more than the decision does, so elsewhere the id is made here.
func decisionID(r *http.Request, repl *caddy.Replacer) string {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if repl != nil && (server != nil && server.Logs != nil || caddyhttp.GetVar(r.Context(), "uuid") != nil) {
		if id, ok := repl.GetString("http.request.uuid"); ok {
			return id
		}
	}
	return newID()
}

// newID makes a random UUID. It is unique and no secret, so it need not come
// from the kernel.
func newID() string {
	var id uuid.UUID
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64()) //nolint:gosec // no secret
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64()) //nolint:gosec // no secret
	id[6] = id[6]&0x0f | 0x40                            // version 4: random
	id[8] = id[8]&0x3f | 0x80                            // of RFC 9562
	return id.String()
}
