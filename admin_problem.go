package scopegate

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/fleet"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
)

// problemError is why a request of the admin API was not done (RFC 9457). It is
// not bound to the reasons that callers of a gateway are told.
type problemError struct {
	Kind    string `json:"-"` // the last part of Type
	Type    string `json:"type"`
	Title   string `json:"title"`
	Status  int    `json:"status"`
	Detail  string `json:"detail"`
	Field   string `json:"field,omitempty"`
	Gateway string `json:"gateway,omitempty"`
}

// Error returns the field and the detail.
func (p *problemError) Error() string {
	if p.Field != "" {
		return p.Field + ": " + p.Detail
	}
	return p.Detail
}

// exitCode is that of a command to which the problem was answered.
func (p *problemError) exitCode() int {
	if p.Status >= http.StatusInternalServerError {
		return 1
	}
	return exitRefused
}

// The kinds of problems. Each is a heading of docs/admin.md.
const (
	kindBadRequest        = "bad-request"
	kindTooLarge          = "too-large"
	kindMediaType         = "media-type"
	kindMethod            = "method"
	kindUnknownRoute      = "unknown-route"
	kindUnknownGateway    = "unknown-gateway"
	kindUnknownTeam       = "unknown-team"
	kindUnknownCredential = "unknown-credential"
	kindUnknownToken      = "unknown-token"
	kindRefused           = "refused"
	kindState             = "state"
	kindExists            = "exists"
	kindFull              = "full"
	kindChanged           = "changed"
	kindBusy              = "busy"
	kindNoStore           = "no-store"
	kindNotRunning        = "not-running"
	kindUnavailable       = "unavailable"
)

// problemStatus is the one place that knows the status codes of the API.
var problemStatus = map[string]int{
	kindBadRequest:        http.StatusBadRequest,
	kindTooLarge:          http.StatusRequestEntityTooLarge,
	kindMediaType:         http.StatusUnsupportedMediaType,
	kindMethod:            http.StatusMethodNotAllowed,
	kindUnknownRoute:      http.StatusNotFound,
	kindUnknownGateway:    http.StatusNotFound,
	kindUnknownTeam:       http.StatusNotFound,
	kindUnknownCredential: http.StatusNotFound,
	kindUnknownToken:      http.StatusNotFound,
	kindRefused:           http.StatusUnprocessableEntity,
	kindState:             http.StatusConflict,
	kindExists:            http.StatusConflict,
	kindFull:              http.StatusConflict,
	kindChanged:           http.StatusPreconditionFailed,
	kindBusy:              http.StatusConflict,
	kindNoStore:           http.StatusConflict,
	kindNotRunning:        http.StatusConflict,
	kindUnavailable:       http.StatusServiceUnavailable,
}

const problemTypes = "https://github.com/scopegate/scopegate/blob/main/docs/admin.md#"

var errNotRunning = &problemError{Kind: kindNotRunning, Detail: "only a gateway that runs can tell, and its admin endpoint is off"}

func badRequest(field, format string, args ...any) *problemError {
	return &problemError{Kind: kindBadRequest, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// missing says that something is not there, and what may be meant instead.
// format has a place for its name.
func missing(kind, format, name string, known []string) *problemError {
	return &problemError{Kind: kind, Detail: fmt.Sprintf(format, shown(name)) + didYouMean(name, known)}
}

func didYouMean(name string, known []string) string {
	if near := scopes.Nearest(name, known); near != "" && isShown(name) {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// shown quotes what a client wrote, unless that may be a key: answers end up
// in terminals and logs.
func shown(text string) string {
	if !isShown(text) {
		return "(of that name)"
	}
	return fmt.Sprintf("%q", text)
}

func isShown(text string) bool {
	return len(text) <= 64 && !strings.Contains(text, credential.Prefix)
}

// problemOf tells an error as a problem.
func problemOf(err error) *problemError {
	var p *problemError
	var no *credential.Refused
	switch {
	case errors.As(err, &p):
		one := *p
		p = &one
	case errors.As(err, &no):
		p = &problemError{Kind: kindOf(no), Field: no.Field, Detail: no.Text}
	case errors.Is(err, store.ErrNotFound):
		p = &problemError{Kind: kindUnknownCredential, Detail: "there is no credential of that id"}
	case errors.Is(err, store.ErrChanged):
		p = &problemError{Kind: kindBusy, Detail: "others change the credential all the time; try again"}
	case errors.Is(err, errNoStore):
		p = &problemError{Kind: kindNoStore, Detail: err.Error()}
	case errors.Is(err, fleet.ErrAhead):
		p = &problemError{Kind: kindRefused, Field: "revision", Detail: err.Error()}
	default:
		// The store's failures, and the audit log's: a change that cannot be
		// recorded is not made.
		p = &problemError{Kind: kindUnavailable, Detail: err.Error()}
	}
	p.Type, p.Status = problemTypes+p.Kind, problemStatus[p.Kind]
	p.Title = http.StatusText(p.Status)
	return p
}

func kindOf(no *credential.Refused) string {
	switch {
	case errors.Is(no, store.ErrExists):
		return kindExists
	case errors.Is(no, store.ErrFull):
		return kindFull
	case no.Field == "state":
		return kindState
	}
	return kindRefused
}

// fail answers with a problem.
func (c *call) fail(err error) {
	p := c.problem(err)
	if p.Status >= http.StatusInternalServerError {
		caddy.Log().Named("scopegate").Error("the admin API could not do what it was asked for",
			zap.String("gateway", p.Gateway), zap.String("method", c.r.Method), zap.Error(err))
	}
	c.w.Header().Set("Content-Type", "application/problem+json")
	c.w.WriteHeader(p.Status)
	_ = json.NewEncoder(c.w).Encode(p) // only the connection can fail: then nobody reads it
}

// problem tells an error as a problem of this request's.
func (c *call) problem(err error) *problemError {
	p := problemOf(err)
	if p.Kind == kindBusy && c.r.Header.Get("If-Match") != "" {
		p = problemOf(&problemError{Kind: kindChanged, Detail: "the credential was changed in the meantime; read it again"})
	}
	if c.office != nil || p.Kind == kindUnknownGateway && isShown(c.name) {
		p.Gateway = c.name
	}
	return p
}
