package integration_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/scopegate/scopegate/credential"
)

// holder is a caller and what it may do, written down beside the Caddyfile
// that says the same to the gateway. It judges what arrives upstream: it knows
// nothing of how the gateway decides.
type holder struct {
	team, name string
	key        string
	scopes     []string
	passwords  bool // may set those of members
	inferred   bool // its gateway has the inferred operations on
	mint       *bounds
	options    string // further lines of its credential block
}

// bounds are those of the tokens that a holder may make.
type bounds struct {
	scopes []string
	nets   []netip.Prefix
	life   time.Duration
	slack  time.Duration // by how much upstream's clock may run behind ours
}

// newHolder makes a key for a credential of a team.
func newHolder(team, name string, scopes ...string) *holder {
	return &holder{team: team, name: name, scopes: scopes, key: credential.Generate().Reveal()}
}

// block is the holder's credential in a Caddyfile.
func (h *holder) block() string {
	key, err := credential.Parse(h.key)
	if err != nil {
		panic(err) // it was made a moment ago
	}
	return fmt.Sprintf("credential %s {\n hash %s:%s\n scopes %s\n %s\n}\n",
		h.name, key.ID(), key.Hash(), strings.Join(h.scopes, " "), h.options)
}

// everything is what the gateway may say of itself upstream.
var everything = []string{"Accept", "Accept-Encoding", "Authorization", "Content-Length", "Content-Type", "User-Agent"}

// judge tells in what a request that arrived upstream is wider than the
// caller who caused it, who may be nobody, or other than the gateway makes
// its requests. Of single tokens the caller may ask for those that its team
// made.
func (h *holder) judge(r received, master, host string, made ...string) error {
	op := operationAt(r.method, r.target)
	id, one := strings.CutPrefix(r.target, "/api/v1/token/")
	switch {
	case h == nil:
		return fmt.Errorf("%s %s came from nobody", r.method, r.target)
	case op == nil:
		return fmt.Errorf("%q %q is no operation", r.method, r.target)
	case op.scope != "" && !slices.Contains(h.scopes, op.scope):
		return fmt.Errorf("%s needs %s, which the caller does not hold", op, op.scope)
	case op.inferred && !h.inferred:
		return fmt.Errorf("%s is not turned on", op)
	case one && !slices.Contains(made, id):
		return fmt.Errorf("%s is about a token that is not the caller's", op)
	}
	if err := r.judge(master, host); err != nil {
		return err
	}
	return h.judgeBody(op, r)
}

// judge tells in what a request is other than the gateway makes all of its
// requests.
func (r received) judge(master, host string) error {
	switch {
	case r.host != host:
		return fmt.Errorf("host %q", r.host)
	case len(r.trailer) > 0:
		return fmt.Errorf("trailer %v", r.trailer)
	case r.length < 0:
		return fmt.Errorf("its length is not said")
	}
	for name, values := range r.header {
		switch {
		case !slices.Contains(everything, name):
			return fmt.Errorf("header %s: %q", name, values)
		case len(values) != 1:
			return fmt.Errorf("header %s stands %d times", name, len(values))
		case strings.Contains(values[0], "sgk_"):
			return fmt.Errorf("header %s holds a local key", name)
		}
	}
	if got := r.header.Get("Authorization"); got != "Bearer "+master {
		return fmt.Errorf("Authorization: %q", got)
	}
	if strings.Contains(r.body, "sgk_") || strings.Contains(r.body, master) {
		return fmt.Errorf("the body holds a secret: %s", r.body)
	}
	return nil
}

func (h *holder) judgeBody(op *operation, r received) error {
	switch {
	case op.body == "none" && r.body != "":
		return fmt.Errorf("%s has a body: %q", op, r.body)
	case r.body == "":
		if op.body == "mint" {
			return fmt.Errorf("a mint without a body")
		}
		return nil
	case !json.Valid([]byte(r.body)):
		return fmt.Errorf("the body is no JSON: %q", r.body)
	case repeats(r.body):
		return fmt.Errorf("the body says something twice: %q", r.body)
	case op.body == "member" && !h.passwords && strings.Contains(strings.ToLower(r.body), "pass"):
		return fmt.Errorf("the body sets a password: %q", r.body)
	case op.body == "mint":
		return h.mint.judge(r.body)
	}
	return nil
}

// stamped is what the gateway puts behind the name of a token.
var stamped = regexp.MustCompile(`-sg-[a-z2-7]{8}-[a-z2-7]{8}-[a-z2-7]{20}-[a-z2-7]{16}"`)

// unstamped returns the body of a mint as it is without a stamp, and the stamp.
func unstamped(body string) (rest, stamp string) {
	at := stamped.FindStringIndex(body)
	if at == nil {
		return body, ""
	}
	end := at[1] - len(`"`)
	return body[:at[0]] + body[end:], body[at[0]:end]
}

// judge tells in what a mint asks for more than it may.
func (b *bounds) judge(body string) error {
	if b == nil {
		return fmt.Errorf("the caller may make no token: %s", body)
	}
	var asked map[string]any
	if err := json.Unmarshal([]byte(body), &asked); err != nil {
		return err
	}
	name, _ := asked["name"].(string)
	expires, _ := asked["expires_at"].(string)
	scopes, _ := asked["allowed_scopes"].([]any)
	ips, _ := asked["allowed_ips"].([]any)
	if len(asked) != 4 || name == "" || expires == "" || len(scopes) == 0 || len(ips) == 0 {
		return fmt.Errorf("a mint has four fields, each of which says something: %s", body)
	}
	if given, stamp := unstamped(body); stamp == "" || stamped.MatchString(given) || utf8.RuneCountInString(name) > 128 {
		return fmt.Errorf("a mint's name has one stamp and 128 characters at most: %q", name)
	}
	for _, s := range scopes {
		if text, _ := s.(string); !slices.Contains(b.scopes, text) || slices.Contains(tokenScopes, text) {
			return fmt.Errorf("scope %v is beyond the grant", s)
		}
	}
	for _, ip := range ips {
		text, _ := ip.(string)
		if err := b.judgeAddress(text); err != nil {
			return err
		}
	}
	at, err := time.Parse("2006-01-02 15:04:05", expires)
	if err != nil {
		return err
	}
	if at.Add(b.slack).After(time.Now().Add(b.life)) || !at.After(time.Now()) {
		return fmt.Errorf("expires_at %s is beyond the grant", expires)
	}
	return nil
}

func (b *bounds) judgeAddress(text string) error {
	p, err := netip.ParsePrefix(text)
	if a, addrErr := netip.ParseAddr(text); addrErr == nil {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		return fmt.Errorf("address %q: %w", text, err)
	}
	for _, n := range b.nets {
		if n.Bits() <= p.Bits() && n.Contains(p.Addr()) {
			return nil
		}
	}
	return fmt.Errorf("address %s is beyond the grant", text)
}
