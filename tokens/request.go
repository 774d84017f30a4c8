package tokens

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/strictjson"
)

// maxScopeName bounds a name that is compared with the catalogue, whose
// longest is half as long: the search for the nearest word is quadratic.
const maxScopeName = 64

// fields in the order in which they are read, which is the order of refusals.
var fields = []string{fieldName, fieldScopes, fieldExpiresAt, fieldIPs}

// readRequest reads the object of a mint. Every field must be there, and
// nothing else: of a key that this gateway does not know, it cannot know what
// upstream does with it.
func readRequest(body strictjson.Value, r Rules) (asked request, refusal *Refusal) {
	found := make([]strictjson.Value, len(fields))
	for name, value := range body.Members() {
		i := slices.Index(fields, name)
		if i < 0 {
			return asked, unknownField(name)
		}
		found[i] = value
	}
	for i, field := range fields {
		switch found[i].Kind() {
		case strictjson.Invalid:
			return asked, invalid(field, "is required")
		case strictjson.Null:
			return asked, invalid(field, "may not be null")
		}
	}
	if asked.name, refusal = readName(found[0], r.maxName()); refusal != nil {
		return asked, refusal
	}
	if asked.scopes, refusal = readScopes(found[1]); refusal != nil {
		return asked, refusal
	}
	if asked.expires, refusal = readExpiry(found[2], r); refusal != nil {
		return asked, refusal
	}
	asked.ips, refusal = readAddresses(found[3])
	return asked, refusal
}

// unknownField tells a key in another case from one that is nobody's: some
// parsers take the first for the right one.
func unknownField(name string) *Refusal {
	for _, field := range fields {
		if strings.EqualFold(field, name) {
			return invalid(field, "stands there in another spelling: keys are case-sensitive")
		}
	}
	const detail = "unknown field: a mint has name, expires_at, allowed_ips and allowed_scopes, and nothing else"
	if isWord(name) {
		return invalid(name, detail)
	}
	return invalid("", detail)
}

// isWord reports whether a key is fit to be shown: no key or token looks like
// a word.
func isWord(key string) bool {
	const longest = 32
	for i := range len(key) {
		if c := key[i] | 0x20; (c < 'a' || c > 'z') && key[i] != '_' {
			return false
		}
	}
	return len(key) <= longest
}

func readName(v strictjson.Value, maxName int) (string, *Refusal) {
	if v.Kind() != strictjson.String {
		return "", invalid(fieldName, "expected a string, not "+v.Kind().String())
	}
	name := v.Text()
	if n := utf8.RuneCountInString(name); n < 1 || n > maxName {
		return "", invalid(fieldName, fmt.Sprintf("expected 1 to %d characters, not %d", maxName, n))
	}
	visible := false
	for _, c := range name {
		if c == '\u2028' || c == '\u2029' || c == '\ufeff' || unicode.In(c, unicode.Cc, unicode.Bidi_Control) {
			// An administrator decides by these names what to revoke.
			return "", invalid(fieldName, fmt.Sprintf("holds %U, which lines and screens show as something else", c))
		}
		visible = visible || unicode.IsGraphic(c) && !unicode.IsSpace(c)
	}
	switch {
	case !visible:
		return "", invalid(fieldName, "is blank")
	case LooksStamped(name):
		// It would pass in the console for a token of another team.
		return "", invalid(fieldName, "ends as the stamps do that the gateway puts behind names; choose another end")
	}
	return name, nil
}

func readScopes(v strictjson.Value) (scopes.Set, *Refusal) {
	var set scopes.Set
	refusal := readStrings(fieldScopes, v, func(name string) (problem string) {
		if len(name) > maxScopeName {
			return "unknown scope"
		}
		s, err := scopes.Parse(name)
		if err != nil {
			if near := scopes.Nearest(name, scopes.All().Names()); near != "" {
				return fmt.Sprintf("unknown scope; did you mean %q?", near)
			}
			return "unknown scope"
		}
		set = set.Union(scopes.Of(s))
		return ""
	})
	return set, refusal
}

func readExpiry(v strictjson.Value, r Rules) (moment, *Refusal) {
	if v.Kind() != strictjson.String {
		return moment{}, invalid(fieldExpiresAt, "expected a string, not "+v.Kind().String())
	}
	m, problem := parseMoment(v.Text(), r.Zone)
	if problem != "" {
		return moment{}, invalid(fieldExpiresAt, problem)
	}
	return m, nil
}

// readStrings calls each with the strings of a non-empty array, until one has
// a problem.
func readStrings(field string, v strictjson.Value, each func(string) (problem string)) *Refusal {
	if v.Kind() != strictjson.Array {
		return invalid(field, "expected an array of strings, not "+v.Kind().String())
	}
	i := 0
	for element := range v.Elements() {
		problem := "expected a string, not " + element.Kind().String()
		if element.Kind() == strictjson.String {
			problem = each(element.Text())
		}
		if problem != "" {
			return invalid(fmt.Sprintf("%s[%d]", field, i), problem)
		}
		i++
	}
	if i == 0 {
		// To upstream an empty list of addresses is every address, and an
		// empty list of scopes may be every scope.
		return invalid(field, "may not be empty")
	}
	return nil
}

func invalid(field, detail string) *Refusal {
	return &Refusal{Reason: policy.MintInvalid, Field: field, Detail: detail}
}
