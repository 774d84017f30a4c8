package scopegate

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/strictjson"
	"github.com/scopegate/scopegate/tokens"
)

// maxBody bounds a request body other than a mint's, in bytes. Those known of
// are a handful of short fields; it leaves room for what is not known.
const maxBody = 1 << 20

// shaped is a request's body as it goes upstream.
type shaped struct {
	body  []byte       // nil is none
	asked []byte       // of a mint: what the caller sent
	mint  *tokens.Mint // for a mint: what will be asked for
}

// shape makes the body that goes upstream: step 4. It is never the caller's
// bytes but a fresh encoding of what was understood of them, so that nothing
// can mean one thing here and another upstream.
func (q *request) shape() *refusal {
	body, no := q.readBody(q.match.Operation.Body == scopes.TokenBody)
	if no != nil {
		return no
	}
	q.shaped, no = q.g.rules.shape(q.match.Operation, &q.caller.Identity, body, q.started)
	if no != nil {
		q.record.RequestedScopes = no.requested.Names()
		return no
	}
	if m := q.shaped.mint; m != nil {
		q.record.RequestedScopes, q.record.GrantedScopes = m.Requested.Names(), m.Scopes.Names()
		q.record.ExpiresAt, q.record.AllowedIPs = m.ExpiresAt, m.AllowedIPs
		q.record.Clamped = m.Clamped
	}
	return nil
}

// shape judges a body by its operation. It does no I/O, so that `explain`
// judges as a running gateway does.
func (c *compiled) shape(op *scopes.Operation, id *policy.Identity, body []byte, now time.Time) (shaped, *refusal) {
	switch {
	case op.Body == scopes.TokenBody:
		mint, no := tokens.Shape(body, id, tokens.Rules{Zone: c.zone, MaxName: c.maxName}, now)
		if no != nil {
			return shaped{}, &refusal{reason: no.Reason, field: no.Field, detail: no.Error(), requested: no.Requested}
		}
		return shaped{asked: body, mint: mint}, nil
	case len(body) == 0:
		return shaped{}, nil
	case op.Body == scopes.NoBody:
		return shaped{}, refuse(policy.UnexpectedBody)
	}
	encoded, err := strictjson.Check(body)
	if err != nil {
		return shaped{}, refuseWith(policy.MalformedBody, err.Error())
	}
	if op.Body == scopes.MemberBody {
		sets, err := tokens.SetsPassword(encoded)
		if err != nil {
			return shaped{}, refuseWith(policy.MalformedBody, err.Error())
		}
		if reason := policy.DecideBody(id, sets); reason != policy.Allowed {
			return shaped{}, refuse(reason)
		}
	}
	return shaped{body: encoded}, nil
}

// readBody reads the request's body within its bounds.
func (q *request) readBody(mint bool) ([]byte, *refusal) {
	r := q.r
	if r.ContentLength == 0 && !mint {
		return nil, nil
	}
	for _, enc := range r.Header["Content-Encoding"] {
		if enc != "" && !strings.EqualFold(enc, "identity") {
			return nil, refuse(policy.ContentEncoding)
		}
	}
	bound := int64(maxBody)
	if mint {
		bound = tokens.MaxBody
	}
	if r.ContentLength > bound {
		return nil, refuse(policy.BodyTooLarge)
	}
	if !isJSON(r.Header["Content-Type"], !mint) {
		return nil, refuse(policy.UnsupportedMediaType)
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, bound))
	q.record.RequestSize = int64(len(body))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, refuse(policy.BodyTooLarge)
	case err != nil:
		return nil, refuseWith(policy.MalformedBody, "the body ended early")
	}
	return body, nil
}

// isJSON reports whether the one Content-Type is JSON in UTF-8. Clients in
// the wild leave it out on reads, where absent says so.
func isJSON(types []string, absentToo bool) bool {
	if len(types) == 0 {
		return absentToo
	}
	media, params, err := mime.ParseMediaType(types[0])
	if len(types) > 1 || err != nil || media != "application/json" {
		return false
	}
	for name, value := range params {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return false
		}
	}
	return true
}
