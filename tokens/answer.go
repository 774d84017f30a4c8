package tokens

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/strictjson"
)

// ErrShape is wrapped by every error about an answer whose shape is not one
// of those that the siblings of the token API have. What the four operations
// answer is documented as "object" and no more; of an answer that is not
// recognised, nothing goes through.
var ErrShape = errors.New("unrecognised shape of a token answer")

// ErrTooLarge is wrapped where an answer does not fit into its bounds.
var ErrTooLarge = errors.New("the answer is too large")

const (
	// maxElement bounds one token object of a list, in bytes. One with every
	// scope and hundreds of addresses takes a tenth.
	maxElement = 256 << 10
	// maxKept bounds the rebuilt list, in bytes: 10,000 usual tokens.
	maxKept = 4 << 20
)

// The members of a token object that callers may see. Whether a read repeats
// the token's secret, and under which name, is not documented, so a member is
// shown for being known, never hidden for looking like a secret.
var shown = []string{"id", "name", "created_at", "expires_at", "allowed_ips", "allowed_scopes"}

// The names under which siblings and other APIs of the kind wrap what they
// answer, one level deep.
var (
	listWrappers   = []string{"data", "items"}
	objectWrappers = []string{"data", "item", "token"}
)

// List reads upstream's list of tokens and returns the tokens to keep, each
// rebuilt, in the wrapping that upstream gave the list; other members of the
// wrapping, such as a count of everyone's tokens, are left out. keep is asked
// with the id in lower case, which is good until it returns. Only what is kept
// is held in memory.
//
// A failure to read is returned wrapped; every other error is an ErrShape or
// an ErrTooLarge.
func List(r io.Reader, keep func(id []byte) bool) ([]byte, error) {
	var kept bounded
	if err := Stream(&kept, r, keep); err != nil {
		return nil, err
	}
	return kept, nil
}

type bounded []byte

func (b *bounded) Write(p []byte) (int, error) {
	if len(*b)+len(p) > maxKept {
		return 0, ErrTooLarge
	}
	*b = append(*b, p...)
	return len(p), nil
}

// Stream is List for any number of tokens: it writes them as it reads. What is
// wrong further on shows after a part of the list was written, so whoever
// passes that on must break off. Errors of w are returned wrapped, too.
func Stream(w io.Writer, r io.Reader, keep func(id []byte) bool) error {
	var buf []byte
	before, end := "", ""
	begin := func(wrapper string) error {
		open := "["
		if end = "]"; wrapper != "" {
			open, end = `{"`+wrapper+`":[`, "]}"
		}
		_, err := io.WriteString(w, open)
		return err
	}
	err := walk(r, begin, func(token strictjson.Value, id []byte) (err error) {
		if !keep(id) {
			return nil
		}
		if buf, err = appendToken(append(buf[:0], before...), token); err == nil {
			_, err = w.Write(buf)
		}
		before = ","
		return err
	})
	if err == nil {
		_, err = io.WriteString(w, end)
	}
	return err
}

// walk calls begin with the wrapping of a list, and then each with every token
// and its id in lower case, both good until it returns. Of a token that is
// passed over nothing is allocated, since there may be 100,000 of them.
func walk(r io.Reader, begin func(wrapper string) error, each func(token strictjson.Value, id []byte) error) error {
	stream := strictjson.NewStream(r, maxElement)
	var lower []byte
	list := func(wrapper string) error {
		if err := begin(wrapper); err != nil {
			return err
		}
		return stream.Elements(func(token strictjson.Value) error {
			id, err := idOf(token, "id")
			if err != nil {
				return err
			}
			lower = append(lower[:0], id...)
			for i := range lower {
				lower[i] |= 0x20 // 'A' to 'F'; digits and '-' have this bit
			}
			return each(token, lower)
		})
	}
	var err error
	if stream.Kind() != strictjson.Object {
		err = list("")
	} else {
		err = unwrapList(stream, list)
	}
	if err == nil {
		err = stream.End()
	}
	if err != nil {
		return fmt.Errorf("reading the token list: %w", classify(err))
	}
	return nil
}

// unwrapList calls list where the one list of an object begins.
func unwrapList(stream *strictjson.Stream, list func(wrapper string) error) error {
	wrapper := ""
	err := stream.Members(func(name string) error {
		if stream.Kind() != strictjson.Array || !slices.Contains(listWrappers, name) {
			_, err := stream.Value()
			return err
		}
		if wrapper != "" {
			return fmt.Errorf("%w: both %s and %s hold a list", ErrShape, wrapper, name)
		}
		wrapper = name
		return list(name)
	})
	if err == nil && wrapper == "" {
		err = fmt.Errorf("%w: no list in the object", ErrShape)
	}
	return err
}

// Object rebuilds the answer to a read of one token: the token with the given
// id, bare or wrapped as upstream wraps it. An answer about another token is
// an ErrShape, since it may be another team's.
func Object(body []byte, id string) ([]byte, error) {
	rebuilt, err := object(body, id)
	if err != nil {
		return nil, fmt.Errorf("reading the token: %w", classify(err))
	}
	return rebuilt, nil
}

func object(body []byte, id string) ([]byte, error) {
	wrapper, token, have, err := locate(body, "id")
	if err != nil {
		return nil, err
	}
	if !strings.EqualFold(have, id) {
		return nil, fmt.Errorf("%w: another token than the one asked for", ErrShape)
	}
	rebuilt, err := appendToken(nil, token)
	if err != nil {
		return nil, err
	}
	return wrap(wrapper, rebuilt), nil
}

// MintedID finds the id of a new token in the answer to a mint: `created_id`,
// which the siblings answer, or `id`. The body is a secret and no part of it
// is in the error.
func MintedID(body []byte) (string, error) {
	_, _, id, err := locate(body, "created_id", "id")
	if err != nil {
		return "", fmt.Errorf("reading the answer to a mint: %w", classify(err))
	}
	return id, nil
}

// locate finds the one object that holds one of the keys: the body itself or,
// if it has none of them, an object that it wraps. Two such objects leave
// open which is meant.
func locate(body []byte, keys ...string) (wrapper string, holder strictjson.Value, id string, err error) {
	outer, err := strictjson.Parse(body)
	if err != nil {
		return "", holder, "", err
	}
	if found, err := idOf(outer, keys...); !errors.Is(err, errNoID) {
		return "", outer, string(found), err
	}
	for name, inner := range outer.Members() {
		if !slices.Contains(objectWrappers, name) || inner.Kind() != strictjson.Object {
			continue
		}
		found, err := idOf(inner, keys...)
		switch {
		case errors.Is(err, errNoID):
		case err != nil:
			return "", holder, "", err
		case wrapper != "":
			return "", holder, "", fmt.Errorf("%w: both %s and %s hold a token", ErrShape, wrapper, name)
		default:
			wrapper, holder, id = name, inner, string(found)
		}
	}
	if wrapper == "" {
		return "", holder, "", errNoID
	}
	return wrapper, holder, id, nil
}

var errNoID = fmt.Errorf("%w: no id", ErrShape)

// idOf returns the id under the first of the keys that the object has. It is
// a part of the object.
func idOf(object strictjson.Value, keys ...string) ([]byte, error) {
	for _, key := range keys {
		value := object.Member(key)
		if value.Kind() == strictjson.Invalid {
			continue
		}
		id := value.Bytes()
		if !scopes.IsUUID(id) {
			return nil, fmt.Errorf("%w: %s is no UUID", ErrShape, key)
		}
		return id, nil
	}
	return nil, errNoID
}

// appendToken appends a token object with the members that may be shown, in
// their fixed order. One that is neither a plain value nor a list of such is
// not what its name says, and might hold anything.
func appendToken(dst []byte, token strictjson.Value) ([]byte, error) {
	found := make([]strictjson.Value, len(shown))
	for name, value := range token.Members() {
		if i := slices.Index(shown, name); i >= 0 {
			found[i] = value
		}
	}
	dst = append(dst, '{')
	for i, value := range found {
		if value.Kind() == strictjson.Invalid {
			continue
		}
		if !plain(value) {
			return dst, fmt.Errorf("%w: %s holds an object or a list of more than plain values", ErrShape, shown[i])
		}
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(strictjson.AppendString(dst, shown[i]), ':')
		if shown[i] == fieldName && value.Kind() == strictjson.String {
			// The stamp is between the gateway and upstream.
			dst = strictjson.AppendString(dst, Unstamped(value.Text()))
			continue
		}
		var err error
		if dst, err = value.AppendTo(dst); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func plain(v strictjson.Value) bool {
	for element := range v.Elements() {
		if k := element.Kind(); k == strictjson.Object || k == strictjson.Array {
			return false
		}
	}
	return v.Kind() != strictjson.Object
}

func wrap(name string, value []byte) []byte {
	if name == "" {
		return value
	}
	wrapped := append(strictjson.AppendString([]byte{'{'}, name), ':')
	return append(append(wrapped, value...), '}')
}

// classify makes what the JSON reader found wrong an outcome of this package.
func classify(err error) error {
	var syntax *strictjson.Error
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("%w: %w", ErrShape, err)
	case errors.Is(err, strictjson.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	default:
		return err
	}
}
