package credential_test

import (
	"errors"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// authenticator knows the credentials given.
func authenticator(t testing.TB, list ...*credential.Credential) *credential.Authenticator {
	t.Helper()
	static, err := credential.NewStatic(list)
	if err != nil {
		t.Fatal(err)
	}
	return credential.NewAuthenticator(static)
}

func parse(t testing.TB, text string) credential.Key {
	t.Helper()
	k, err := credential.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// ask authenticates into a credential that holds what another request left.
func ask(a *credential.Authenticator, h http.Header, query string) (credential.Credential, policy.Reason) {
	c := *holder("left over", "left over", credential.Generate())
	c.Identity.Credential, c.Generation, c.Supersedes, c.TeamGone = "left over", 7, 7, true
	reason := a.Authenticate(h, query, now, &c)
	return c, reason
}

func with(authorization ...string) http.Header { return http.Header{"Authorization": authorization} }

func TestAuthenticateReadsOnlyBearer(t *testing.T) {
	a := authenticator(t, holder("billing", "ci", parse(t, goodKey)))
	unknown := credential.Generate().Reveal()
	forged, err := credential.GenerateWithID(parse(t, goodKey).ID())
	if err != nil {
		t.Fatal(err)
	}
	also := func(name string, values ...string) http.Header {
		h := with("Bearer " + goodKey)
		h[name] = values
		return h
	}
	escaped := func(from, to string) string { return strings.Replace(goodKey, from, to, 1) }

	tests := []struct {
		name   string
		header http.Header
		query  string
		want   policy.Reason
	}{
		{"good key", with("Bearer " + goodKey), "", policy.Allowed},
		{"scheme in capitals", with("BEARER " + goodKey), "", policy.Allowed},
		{"scheme in small letters", with("bearer " + goodKey), "", policy.Allowed},
		{"more spaces", with("Bearer   " + goodKey), "", policy.Allowed},
		{"other headers and a query", also("User-Agent", "curl/8.5"), "page=2&q=100%25", policy.Allowed},
		{"another program's token in the query", with("Bearer " + goodKey), "access_token=abc&token=x%5Fy", policy.Allowed},
		{"another program's cookie", also("Cookie", "session=sgk; k=%73gk"), "", policy.Allowed},

		{"no headers", nil, "", policy.NoCredential},
		{"no Authorization", http.Header{"Accept": {"*/*"}}, "", policy.NoCredential},
		{"empty", with(""), "", policy.NoCredential},
		{"Basic", with("Basic dXNlcjpwYXNz"), "", policy.NoCredential},
		{"the key as a Basic password", with("Basic " + goodKey), "", policy.NoCredential},
		{"Digest, which has commas", with(`Digest username="u", realm="r"`), "", policy.NoCredential},
		{"no scheme", with(goodKey), "", policy.NoCredential},
		{"scheme that only begins alike", with("BearerX " + goodKey), "", policy.NoCredential},
		{"tab instead of a space", with("Bearer\t" + goodKey), "", policy.NoCredential},
		{"space before", with(" Bearer " + goodKey), "", policy.NoCredential},

		// Which of two counts? Two programs may answer differently.
		{"two headers", with("Bearer "+goodKey, "Bearer "+unknown), "", policy.MultipleCredentials},
		{"two equal headers", with("Bearer "+goodKey, "Bearer "+goodKey), "", policy.MultipleCredentials},
		{"the good one last", with("Basic dXNlcjpwYXNz", "Bearer "+goodKey), "", policy.MultipleCredentials},
		{"an empty one first", with("", "Bearer "+goodKey), "", policy.MultipleCredentials},
		{"joined by a proxy", with("Bearer " + goodKey + ", Bearer " + unknown), "", policy.MultipleCredentials},
		{"joined, another scheme first", with("Basic dXNlcjpwYXNz, Bearer " + goodKey), "", policy.MultipleCredentials},
		{"a comma behind", with("Bearer " + goodKey + ","), "", policy.MultipleCredentials},

		{"scheme alone", with("Bearer"), "", policy.MalformedCredential},
		{"scheme and space", with("Bearer "), "", policy.MalformedCredential},
		{"another program's token", with("Bearer ghp_0123456789"), "", policy.MalformedCredential},
		{"typed wrong", with("Bearer " + goodKey[:20] + "zz" + goodKey[22:]), "", policy.MalformedCredential},
		{"something behind", with("Bearer " + goodKey + " x"), "", policy.MalformedCredential},
		{"space behind", with("Bearer " + goodKey + " "), "", policy.MalformedCredential},
		{"two keys in one", with("Bearer " + goodKey + " " + unknown), "", policy.MalformedCredential},
		{"quoted", with(`Bearer "` + goodKey + `"`), "", policy.MalformedCredential},
		{"escaped", with("Bearer " + escaped("_", "%5F")), "", policy.MalformedCredential},
		{"its hash", with("Bearer " + vectors[0].hash), "", policy.MalformedCredential},

		{"unknown id", with("Bearer " + unknown), "", policy.UnknownCredential},
		{"known id, other secret", with("Bearer " + forged.Reveal()), "", policy.UnknownCredential},

		// A key in a place that is logged is refused though another is good.
		{"query", nil, "access_token=" + goodKey, policy.MisplacedCredential},
		{"query, good header", with("Bearer " + goodKey), "key=" + goodKey, policy.MisplacedCredential},
		{"query, another key", with("Bearer " + goodKey), "key=" + unknown, policy.MisplacedCredential},
		{"query, name of a parameter", with("Bearer " + goodKey), goodKey, policy.MisplacedCredential},
		{"query, escape in capitals", with("Bearer " + goodKey), "k=" + escaped("_", "%5F"), policy.MisplacedCredential},
		{"query, escape in small letters", with("Bearer " + goodKey), "k=" + escaped("_", "%5f"), policy.MisplacedCredential},
		{"query, every letter escaped", with("Bearer " + goodKey), "k=" + escaped("sgk_", "%73%67%6B%5f"), policy.MisplacedCredential},
		{"query, a false start before", with("Bearer " + goodKey), "k=ssgsg" + escaped("g", "%67"), policy.MisplacedCredential},
		{"query, broken escapes before", with("Bearer " + goodKey), "%%7%zz" + escaped("_", "%5f"), policy.MisplacedCredential},
		{"cookie", also("Cookie", "a=b; key="+goodKey), "", policy.MisplacedCredential},
		{"Proxy-Authorization", also("Proxy-Authorization", "Bearer "+goodKey), "", policy.MisplacedCredential},
		{"X-Api-Key", http.Header{"X-Api-Key": {goodKey}}, "", policy.MisplacedCredential},
		{"Referer", also("Referer", "https://example.com/?k="+escaped("_", "%5f")), "", policy.MisplacedCredential},
		{"second value of a header", also("X-Trace", "a", goodKey), "", policy.MisplacedCredential},
		{"header beside two Authorizations", http.Header{"Authorization": {"a", "b"}, "X-Key": {goodKey}}, "", policy.MisplacedCredential},
		// net/http makes names canonical; a middleware need not.
		{"a name in small letters", http.Header{"authorization": {"Bearer " + goodKey}}, "", policy.MisplacedCredential},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, reason := ask(a, tt.header, tt.query)
			if reason != tt.want {
				t.Fatalf("%s, want %s", reason, tt.want)
			}
			if c.Proven() != (tt.want == policy.Allowed) || !c.Proven() && !reflect.ValueOf(c).IsZero() {
				t.Errorf("credential %+v with %s", c, reason)
			}
		})
	}
}

func TestAuthenticateTellsStandingOnlyToTheHolder(t *testing.T) {
	key := parse(t, goodKey)
	forged, err := credential.GenerateWithID(key.ID())
	if err != nil {
		t.Fatal(err)
	}
	second := time.Second
	tests := []struct {
		name               string
		state              credential.State
		notBefore, expires time.Time
		want               policy.Reason
	}{
		{"no bounds", credential.Active, time.Time{}, time.Time{}, policy.Allowed},
		{"within bounds", credential.Active, now.Add(-second), now.Add(second), policy.Allowed},
		{"first instant", credential.Active, now, now.Add(second), policy.Allowed},
		{"last instant", credential.Active, time.Time{}, now.Add(1), policy.Allowed},
		{"an instant too early", credential.Active, now.Add(1), time.Time{}, policy.CredentialNotYetValid},
		{"expired this instant", credential.Active, time.Time{}, now, policy.CredentialExpired},
		{"expired in another zone", credential.Active, time.Time{}, now.In(time.FixedZone("", 3600)), policy.CredentialExpired},
		{"expired", credential.Active, time.Time{}, now.Add(-second), policy.CredentialExpired},
		{"suspended", credential.Suspended, time.Time{}, time.Time{}, policy.CredentialSuspended},
		{"suspended and expired", credential.Suspended, time.Time{}, now, policy.CredentialSuspended},
		{"revoked", credential.Revoked, time.Time{}, time.Time{}, policy.CredentialRevoked},
		{"revoked and not yet valid", credential.Revoked, now.Add(1), time.Time{}, policy.CredentialRevoked},
		{"state never set", 0, time.Time{}, time.Time{}, policy.CredentialRevoked},
		{"state of a later version", 200, time.Time{}, time.Time{}, policy.CredentialRevoked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := holder("billing", "ci", key)
			c.State, c.NotBefore, c.Expires = tt.state, tt.notBefore, tt.expires
			a := authenticator(t, c)

			got, reason := ask(a, with("Bearer "+goodKey), "")
			if reason != tt.want {
				t.Errorf("%s, want %s", reason, tt.want)
			}
			if !got.Proven() || got.Identity.Name != "ci" || got.Identity.Credential != key.ID() {
				t.Errorf("the record cannot name the credential: %v", got)
			}
			// Who only knows the id, which is no secret, learns nothing.
			if got, reason := ask(a, with("Bearer "+forged.Reveal()), ""); got.Proven() || reason != policy.UnknownCredential {
				t.Errorf("with a wrong secret: %v, %s", got, reason)
			}
		})
	}
}

func TestAuthenticateWhileAKeyIsExchanged(t *testing.T) {
	old := credential.Generate()
	sameID, err := credential.GenerateWithID(old.ID())
	if err != nil {
		t.Fatal(err)
	}
	for name, next := range map[string]credential.Key{"same id": sameID, "another id": credential.Generate()} {
		t.Run(name, func(t *testing.T) {
			both := authenticator(t, holder("billing", "ci", old, next))
			after := authenticator(t, holder("billing", "ci", next))
			for _, key := range []credential.Key{old, next} {
				c, reason := ask(both, with("Bearer "+key.Reveal()), "")
				if reason != policy.Allowed || c.Identity.Credential != key.ID() {
					t.Errorf("%s: %v, %s", key, c, reason)
				}
			}
			if _, reason := ask(after, with("Bearer "+old.Reveal()), ""); reason != policy.UnknownCredential {
				t.Errorf("the old key afterwards: %s", reason)
			}
			if _, reason := ask(after, with("Bearer "+next.Reveal()), ""); reason != policy.Allowed {
				t.Errorf("the new key afterwards: %s", reason)
			}
		})
	}
}

// lenient is a Lookup that finds one credential under every id, as one over a
// case-insensitive column would under some.
type lenient struct{ c *credential.Credential }

func (l lenient) Find(_ string, into *credential.Credential) (credential.Found, error) {
	*into = *l.c
	return credential.Stored, nil
}

// The secret decides, not what the store found: a credential without a key,
// or with another one, lets nobody in.
func TestAuthenticateTrustsNoLookup(t *testing.T) {
	for name, c := range map[string]*credential.Credential{
		"another key": holder("billing", "ci", credential.Generate()),
		"no key":      holder("billing", "ci"),
		"zero hash":   {Verifiers: make([]credential.Verifier, 3), State: credential.Active},
	} {
		t.Run(name, func(t *testing.T) {
			a := credential.NewAuthenticator(lenient{c})
			if got, reason := ask(a, with("Bearer "+goodKey), ""); got.Proven() || reason != policy.UnknownCredential {
				t.Errorf("%v, %s", got, reason)
			}
		})
	}
}

// half is a Lookup that writes a credential and then says something else.
type half struct {
	c     *credential.Credential
	found credential.Found
	err   error
}

func (l half) Find(_ string, into *credential.Credential) (credential.Found, error) {
	*into = *l.c
	return l.found, l.err
}

// A key that is right is worth nothing if the look-up found nothing or does
// not know: never fail open.
func TestAuthenticateNeedsACredentialThatWasFound(t *testing.T) {
	c := holder("billing", "ci", parse(t, goodKey))
	for name, tt := range map[string]struct {
		known credential.Lookup
		want  policy.Reason
	}{
		"found":       {half{c, credential.Stored, nil}, policy.Allowed},
		"not found":   {half{c, credential.Unknown, nil}, policy.UnknownCredential},
		"nobody knew": {half{c, credential.Stored, errors.New("no route to host")}, policy.StoreUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			got, reason := ask(credential.NewAuthenticator(tt.known), with("Bearer "+goodKey), "")
			if reason != tt.want || got.Proven() != (reason == policy.Allowed) {
				t.Errorf("%v, %s, want %s", got, reason, tt.want)
			}
		})
	}
}

// requests are one of each kind that a gateway meets often.
func requests(t testing.TB) (*credential.Authenticator, map[string]http.Header) {
	forged, err := credential.GenerateWithID(parse(t, goodKey).ID())
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]http.Header{
		"good":         with("Bearer " + goodKey),
		"wrong secret": with("Bearer " + forged.Reveal()),
		"unknown id":   with("Bearer " + credential.Generate().Reveal()),
		"malformed":    with("Bearer " + goodKey[:40]),
		"none":         {},
	}
	for _, h := range list {
		h["Accept"] = []string{"application/json"}
		h["User-Agent"] = []string{"Terraform/1.9.8 (+https://example.com) Go-http-client/1.1"}
		h["X-Forwarded-For"] = []string{"203.0.113.7"}
		h["Referer"] = []string{"https://example.com/a%20b"}
	}
	return authenticator(t, holder("billing", "ci", parse(t, goodKey), credential.Generate())), list
}

func TestAuthenticateDoesNotAllocate(t *testing.T) {
	a, list := requests(t)
	for name, h := range list {
		var c credential.Credential
		if n := testing.AllocsPerRun(100, func() { a.Authenticate(h, "page=2&name=a%20b", now, &c) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	a, list := requests(b)
	for name, h := range list {
		b.Run(name, func(b *testing.B) {
			var c credential.Credential
			b.ReportAllocs()
			for b.Loop() {
				a.Authenticate(h, "page=2", now, &c)
			}
		})
	}
}

// Only one well-formed Bearer with a known key lets in, and never beside a
// key in another place, whatever its escapes.
func FuzzAuthenticate(f *testing.F) {
	f.Add("Bearer "+goodKey, "page=2", "curl/8.5")
	f.Add("bearer  "+goodKey, "k=sgk%5f", "")
	f.Add("Bearer "+goodKey, "%2573gk_", "%73%67%6b%5F")
	f.Add("Bearer "+goodKey+", Bearer x", "%", "%7")
	a := authenticator(f, holder("billing", "ci", parse(f, goodKey)))
	good := regexp.MustCompile(`\A(?i:bearer) +` + goodKey + `\z`)
	key := regexp.MustCompile(`(s|%73)(g|%67)(k|%6[bB])(_|%5[fF])`)
	f.Fuzz(func(t *testing.T, authorization, query, other string) {
		h := with(authorization)
		h["X-Other"] = []string{other}
		c, reason := ask(a, h, query)
		stray := key.MatchString(query) || key.MatchString(other)
		if stray != (reason == policy.MisplacedCredential) {
			t.Fatalf("query %q, other header %q: %s", query, other, reason)
		}
		if let := good.MatchString(authorization) && !stray; let != (reason == policy.Allowed) || let != c.Proven() {
			t.Fatalf("Authorization %q: %s, %v", authorization, reason, c)
		}
	})
}
