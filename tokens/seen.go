package tokens

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/scopegate/scopegate/strictjson"
)

// Seen is a token as upstream shows it. What it does not show, or not in the
// form that a mint has, is not in Shown.
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
	_, err := walk(r, func(token strictjson.Value, id []byte) error {
		seen, err := readSeen(token, string(id))
		if err != nil {
			return err
		}
		return f(seen)
	})
	return err
}

// Read reads the answer to a read of the token with the given id, as Object
// does.
func Read(body []byte, id string) (Seen, error) {
	_, token, have, err := locate(body, "id")
	if err == nil && !strings.EqualFold(have, id) {
		err = fmt.Errorf("%w: another token than the one asked for", ErrShape)
	}
	var seen Seen
	if err == nil {
		seen, err = readSeen(token, have)
	}
	if err != nil {
		return Seen{}, fmt.Errorf("reading the token: %w", classify(err))
	}
	return seen, nil
}

// readSeen reads the fields of a mint off a token. One that has another form
// counts as not shown: nothing can be proved by it.
func readSeen(token strictjson.Value, id string) (Seen, error) {
	seen := Seen{ID: id}
	for name, value := range token.Members() {
		if slices.Contains(seen.Shown, name) {
			return Seen{}, fmt.Errorf("%w: %s stands there twice", ErrShape, name)
		}
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
		if ok {
			seen.Shown = append(seen.Shown, name)
		}
	}
	return seen, nil
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
