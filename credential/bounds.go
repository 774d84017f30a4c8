package credential

import (
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/scopegate/scopegate/scopes"
)

const (
	maxName     = 64
	maxText     = 500 // characters of a note, or of an operator's name
	maxNetworks = 100
)

// checkID refuses what can be no id, before it gets into a query or a record:
// a whole key may stand where its id belongs.
func checkID(id string) error {
	switch {
	case holdsKey(id):
		return refused("id", "a whole key stands where its id belongs, the %d characters behind %s; if others could read it, rotate it", idLength, Prefix)
	case len(id) != idLength || !inAlphabet(id):
		return refused("id", "expected %d digits and letters", idLength)
	}
	return nil
}

// checkName keeps names fit for records and tables, as the configuration does.
func checkName(name string) error {
	foreign := func(r rune) bool { return !strings.ContainsRune(alphabet+"-_.", r) }
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, foreign) {
		return refused("name", "expected 1 to %d letters, digits, hyphens, dots or underscores", maxName)
	}
	if holdsKey(name) {
		return refused("name", "it begins like a key; choose another one")
	}
	return nil
}

// CheckText refuses a text for people that would do something to the terminal
// in which one reads it, and one that holds a key: notes are shown to many.
func CheckText(field, text string) error {
	switch {
	case holdsKey(text):
		return refused(field, "it holds a key, which is shown to nobody; leave it out")
	case !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return refused(field, "it holds a character that cannot be printed; write it as one line of text")
	case utf8.RuneCountInString(text) > maxText:
		return refused(field, "it has more than %d characters", maxText)
	}
	return nil
}

// grant finds the names of the scopes that patterns stand for, within those
// that there are to give. Nil patterns are nil names: all of them, whatever
// they will be.
func grant(patterns []string, within scopes.Set) ([]string, error) {
	if patterns == nil {
		return nil, nil
	}
	if len(patterns) == 0 {
		return nil, refused("scopes", "none is named; leave it out to follow the team, or suspend the credential")
	}
	var given scopes.Set
	for _, p := range patterns {
		if holdsKey(p) {
			return nil, refused("scopes", "a key stands where a scope belongs")
		}
		e, err := scopes.Expand(p)
		if err != nil {
			return nil, refused("scopes", "%v", err)
		}
		part := e.Set.Intersect(within)
		named := !strings.Contains(p, "*")
		if part.Empty() || named && part != e.Set {
			return nil, refused("scopes", "%s: there is no such scope to give; there are: %s", p, within)
		}
		given = given.Union(part)
	}
	return given.Names(), nil
}

// networks reads addresses and networks, and returns each once, in the form
// that a row keeps. Nil is nil: anywhere that the team may come from.
func networks(list []string) ([]netip.Prefix, error) {
	if list == nil {
		return nil, nil
	}
	if len(list) == 0 {
		return nil, refused("allowed_ips", "no network is named; leave it out to allow all that the team may come from, or suspend the credential")
	}
	if len(list) > maxNetworks {
		return nil, refused("allowed_ips", "more than %d networks; join those that lie together", maxNetworks)
	}
	seen := map[netip.Prefix]bool{}
	var out []netip.Prefix
	for _, text := range list {
		p, err := network(text)
		if err != nil {
			return nil, err
		}
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out, nil
}

func network(text string) (netip.Prefix, error) {
	if holdsKey(text) {
		return netip.Prefix{}, refused("allowed_ips", "a key stands where a network belongs")
	}
	p, err := netip.ParsePrefix(text)
	if a, addrErr := netip.ParseAddr(text); addrErr == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil:
		return netip.Prefix{}, refused("allowed_ips", "%q is neither an address nor a network such as 203.0.113.0/24", text)
	case p.Addr().Is4In6() && p.Bits() < 96:
		return netip.Prefix{}, refused("allowed_ips", "%q: write the IPv4 network itself", text)
	case p.Addr().Is4In6():
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, refused("allowed_ips", "%q has bits behind its mask; did you mean %s?", text, p.Masked())
	}
	return p, nil
}

func texts(list []netip.Prefix) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.String())
	}
	return out
}

// covers reports whether one of the networks holds all of another.
func covers(list []netip.Prefix, p netip.Prefix) bool {
	for _, outer := range list {
		if outer.Bits() <= p.Bits() && outer.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// expiry finds when a credential is to end: at a time, or after one. Neither
// is as late as the rules allow, which may be never.
func (r Rules) expiry(now, at time.Time, ttl time.Duration) (time.Time, error) {
	field := "expires_at"
	switch {
	case ttl < 0:
		return time.Time{}, refused("ttl", "it must be above zero")
	case ttl > 0 && !at.IsZero():
		return time.Time{}, refused("ttl", "it stands beside expires_at; keep one of the two")
	case ttl > 0:
		field, at = "ttl", now.Add(ttl)
	case at.IsZero() && r.MaxTTL == 0:
		return time.Time{}, nil
	case at.IsZero():
		at = now.Add(r.MaxTTL)
	}
	at = at.UTC().Truncate(time.Microsecond)
	switch {
	case !at.After(now):
		return time.Time{}, refused(field, "it is not in the future")
	case at.Year() > 9999: // JSON has no such time
		return time.Time{}, refused(field, "it is too late; leave it out for a credential that does not end")
	case r.MaxTTL > 0 && at.After(now.Add(r.MaxTTL)):
		return time.Time{}, refused(field, "max_credential_ttl of the team lets it live until %s, if made now", now.Add(r.MaxTTL).Format(time.RFC3339))
	}
	return at, nil
}
