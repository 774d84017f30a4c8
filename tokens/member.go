package tokens

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/scopegate/scopegate/strictjson"
)

// SetsPassword reports whether a change of a member may set a password: an
// object member of that name, at any depth. GoodAccess documents the one
// spelling `password`; since nothing is known of how upstream reads names,
// every spelling that any parser could take for it counts.
func SetsPassword(body []byte) (bool, error) {
	return strictjson.AnyName(body, namesPassword)
}

// namesPassword compares what is left of a name when case, width, accents,
// digits, punctuation and invisible characters are taken from it.
func namesPassword(name string) bool {
	folded := norm.NFKD.String(cases.Fold().String(norm.NFKD.String(name)))
	letters := strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) {
			return c
		}
		return -1
	}, folded)
	return letters == "pass" || letters == "pwd" ||
		strings.Contains(letters, "password") || strings.Contains(letters, "passwd")
}
