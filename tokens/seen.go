package tokens

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/scopegate/scopegate/strictjson"
)

// Seen is a token as upstream shows it. What it does not show, or not in the
// form that a mint has, is not in Shown; what it says the token has none of is
// there, and empty.
type Seen struct {
	ID         string
	Name       string
	ExpiresAt  string
	AllowedIPs []string
	Scopes     []string

	Shown []string // fields of a mint
}

// Each calls f with every token of upstream's list, in the shapes that List
// knows. It holds one token at a time, and its errors are those of List.
func Each(r io.Reader, f func(Seen) error) error {
	return walk(r, func(string) error { return nil }, func(token strictjson.Value, id []byte) error {
		return f(readSeen(token, string(id)))
	})
}

// Read reads the answer to a read of the token with the given id, as Object
// does.
func Read(body []byte, id string) (Seen, error) {
	_, token, have, err := locate(body, "id")
	if err == nil && !strings.EqualFold(have, id) {
		err = fmt.Errorf("%w: another token than the one asked for", ErrShape)
	}
	if err != nil {
		return Seen{}, fmt.Errorf("reading the token: %w", classify(err))
	}
	return readSeen(token, have), nil
}

// readSeen reads the fields of a mint off a token. One that has another form
// counts as not shown: nothing can be proved by it.
func readSeen(token strictjson.Value, id string) Seen {
	seen := Seen{ID: id}
	for name, value := range token.Members() {
		ok := false
		switch name {
		case fieldName:
			seen.Name, ok = textOf(value)
		case fieldExpiresAt:
			seen.ExpiresAt, ok = textOf(value)
		case fieldIPs:
			seen.AllowedIPs, ok = textsOf(value)
		case fieldScopes:
			seen.Scopes, ok = textsOf(value)
		}
		if ok || slices.Contains(fields, name) && saysNone(value) {
			seen.Shown = append(seen.Shown, name)
		}
	}
	return seen
}

// saysNone reports whether a field says that the token has nothing of the kind:
// no expiry is for ever, and no list may be everything. PHP has many words for
// it.
func saysNone(v strictjson.Value) bool {
	switch v.Kind() {
	case strictjson.Null, strictjson.False:
		return true
	case strictjson.Number:
		text, err := v.AppendTo(nil)
		return err == nil && string(text) == "0"
	case strictjson.Object:
		for range v.Members() {
			return false
		}
		return true
	default:
		return false
	}
}

func textOf(v strictjson.Value) (string, bool) {
	return v.Text(), v.Kind() == strictjson.String
}

func textsOf(v strictjson.Value) (list []string, ok bool) {
	for element := range v.Elements() {
		if element.Kind() != strictjson.String {
			return nil, false
		}
		list = append(list, element.Text())
	}
	return list, v.Kind() == strictjson.Array
}
