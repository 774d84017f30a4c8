package scopegate

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/strictjson"
)

const (
	maxAdminBody = 64 << 10

	operatorHeader = "Scopegate-Operator"
	nobodyNamed    = "unknown"
	maxOperator    = 64

	maxListed = 1000 // credentials on a page
)

// moment is a time in RFC 3339.
type moment struct{ time.Time }

// UnmarshalJSON goes before that of time.Time, whose error repeats what it read,
// and that may be a key in the wrong place.
func (m *moment) UnmarshalJSON(b []byte) error {
	var text *string
	if err := json.Unmarshal(b, &text); err != nil || text == nil {
		return err
	}
	return m.UnmarshalText([]byte(*text))
}

// UnmarshalText reads a time. Its error does not repeat what it read.
func (m *moment) UnmarshalText(b []byte) (err error) {
	// The first moment of all would read as none: as a credential without end.
	if m.Time, err = time.Parse(time.RFC3339, string(b)); err != nil || m.IsZero() {
		return errors.New("expected a time such as 2027-01-31T12:00:00Z")
	}
	return nil
}

// span is a length of time as Caddy writes one.
type span struct {
	time.Duration
	given bool
}

// UnmarshalText reads a duration. Its error does not repeat what it read.
func (s *span) UnmarshalText(b []byte) (err error) {
	if s.Duration, err = caddy.ParseDuration(string(b)); err != nil {
		return errors.New("expected a duration such as 30d or 24h")
	}
	s.given = true
	return nil
}

// positive refuses a life of no time, which would read as one without end.
func (s span) positive(field string) error {
	if s.given && s.Duration <= 0 {
		return &credential.Refused{Field: field, Text: "it must be above zero"}
	}
	return nil
}

// decode reads the body into a struct. No body is an empty object. allowed are
// the names that it may have; none are all that the struct has.
func (c *call) decode(into any, allowed ...string) error {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxAdminBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &problemError{Kind: kindTooLarge, Detail: "the body has more than 64 KiB"}
	case err != nil:
		return badRequest("", "reading the body: %v", err)
	case len(body) == 0:
		return nil
	}
	// A form that a browser sends without asking first is none of these.
	if kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &problemError{Kind: kindMediaType, Detail: "the body must be application/json"}
	}
	if _, err := strictjson.Check(body); err != nil {
		return badRequest("", "the body is not one strict JSON value: %v", err)
	}
	return decodeObject(body, into, "", allowed)
}

// decodeObject is stricter than the standard's decoder: a name must be spelt
// exactly, and a mistake is told with the field and the nearest right word.
func decodeObject(raw []byte, into any, prefix string, allowed []string) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return badRequest(strings.TrimSuffix(prefix, "."), "expected a JSON object")
	}
	fields := map[string]any{}
	var known []string
	v := reflect.ValueOf(into).Elem()
	for f, value := range v.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if len(allowed) == 0 || slices.Contains(allowed, name) {
			fields[name] = value.Addr().Interface()
			known = append(known, name)
		}
	}
	for name, value := range members {
		field := prefix + name
		target, ok := fields[name]
		if !ok {
			p := missing(kindBadRequest, "there is no field %s", field, prefixed(prefix, known))
			if isShown(field) {
				p.Field = field
			}
			return p
		}
		if nested, ok := target.(*bulkFilter); ok {
			if err := decodeObject(value, nested, field+".", nil); err != nil {
				return err
			}
			continue
		}
		if err := json.Unmarshal(value, target); err != nil {
			return badRequest(field, "%s", plainly(err))
		}
	}
	return nil
}

func prefixed(prefix string, names []string) []string {
	var list []string
	for _, name := range names {
		list = append(list, prefix+name)
	}
	return list
}

// plainly tells of a value of the wrong type in JSON's words, not Go's.
func plainly(err error) string {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err.Error()
	}
	switch wrong.Type.Kind() {
	case reflect.Bool:
		return "expected true or false"
	case reflect.Slice:
		return "expected a list of texts"
	case reflect.Int, reflect.Int64:
		return "expected a whole number"
	}
	return "expected a text in quotation marks"
}

// operator is who asks, as claimed.
func (c *call) operator() (string, error) {
	name := strings.TrimSpace(c.r.Header.Get(operatorHeader))
	switch {
	case name == "":
		return nobodyNamed, nil
	case !validOperator(name):
		return "", badRequest(operatorHeader, "expected 1 to %d letters, digits, spaces, hyphens, dots, underscores or @, and no key", maxOperator)
	}
	return name, nil
}

// validOperator is validName with room for addresses and full names.
func validOperator(name string) bool {
	plain := strings.NewReplacer("@", "-", " ", "-").Replace(name)
	return validName(plain) && isShown(name)
}

// edit reads what all changes have in common.
func (c *call) edit(note string) (e credential.Edit, err error) {
	e.Note = note
	if e.By, err = c.operator(); err != nil {
		return e, err
	}
	match := c.r.Header.Get("If-Match")
	if match == "" || match == "*" {
		return e, nil
	}
	text, quoted := strings.CutPrefix(match, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	if e.If, err = strconv.ParseInt(text, 10, 64); err != nil || !quoted || !closed || e.If < 0 {
		return e, badRequest("If-Match", `expected the ETag of the credential, such as "17"`)
	}
	return e, nil
}

// tag sets the ETag of a credential.
func (c *call) tag(row store.Credential) {
	c.w.Header().Set("ETag", `"`+strconv.FormatInt(row.Revision, 10)+`"`)
}

// filter reads what a list is asked for.
func (c *call) filter() (f store.Filter, err error) {
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return f, badRequest("", "the query cannot be read")
	}
	known := []string{"team", "state", "expires_before", "created_before", "used_before", "limit", "after"}
	for name, values := range query {
		value := values[0]
		switch {
		case !slices.Contains(known, name):
			p := missing(kindBadRequest, "there is no parameter %s", name, known)
			if isShown(name) {
				p.Field = name
			}
			return f, p
		case len(values) > 1 && name != "state":
			return f, badRequest(name, "it stands twice")
		}
		switch name {
		case "team":
			f.Team = value
		case "state":
			f.States, err = statesOf(values)
		case "expires_before":
			f.ExpiresBefore, err = momentOf(name, value)
		case "created_before":
			f.CreatedBefore, err = momentOf(name, value)
		case "used_before":
			f.UsedBefore, err = momentOf(name, value)
		case "limit":
			if f.Limit, err = strconv.Atoi(value); err != nil || f.Limit < 1 || f.Limit > maxListed {
				err = badRequest(name, "expected a number from 1 to %d", maxListed)
			}
		case "after":
			f.After = value
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

func momentOf(field, text string) (time.Time, error) {
	var m moment
	if err := m.UnmarshalText([]byte(text)); err != nil {
		return m.Time, badRequest(field, "%v", err)
	}
	return m.Time, nil
}

// statesOf reads the names of states, each by itself or with commas between.
func statesOf(values []string) ([]string, error) {
	var list []string
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			if _, err := credential.ParseState(name); err != nil {
				return nil, badRequest("state", "expected active, suspended or revoked")
			}
			list = append(list, name)
		}
	}
	return list, nil
}

// lasting is a context for a change, which must not end half-way because the
// one who asked for it hung up.
func (c *call) lasting() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.r.Context()), storePatience)
}
