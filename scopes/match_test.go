package scopes_test

import (
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/scopegate/scopegate/scopes"
)

const uuid = "6f1d1c4e-0d2a-4f9b-8a36-2f0b7c9d5e11"

func router(t testing.TB, inferred bool, added ...*scopes.Operation) *scopes.Router {
	t.Helper()
	r, err := scopes.NewRouter(inferred, added...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func operation(t testing.TB, method, path, scope string) *scopes.Operation {
	t.Helper()
	op, err := scopes.NewOperation(method, path, scope)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

var param = regexp.MustCompile(`\{[^/]*\}`)

// sample fills a template with ids.
func sample(template string) string { return param.ReplaceAllString(template, uuid) }

func TestMatchFindsEveryOperation(t *testing.T) {
	r := router(t, true)
	for _, op := range scopes.Operations() {
		t.Run(op.ID, func(t *testing.T) {
			p := sample(op.Path)
			m := r.Match(op.Method, p)
			if m.Outcome != scopes.Matched || m.Operation != op {
				t.Fatalf("%s %s: outcome %d, %v", op.Method, p, m.Outcome, m.Operation)
			}
			if m.Path() != p {
				t.Errorf("upstream gets %s, want %s", m.Path(), p)
			}
			for i, id := range m.Params {
				if has := strings.Count(op.Path, "{") > i; has != (id == uuid) {
					t.Errorf("parameter %d is %q", i, id)
				}
			}
		})
	}
}

func TestInferredOperationsAreOff(t *testing.T) {
	off, on := router(t, false), router(t, true)
	for _, op := range scopes.Operations() {
		want := scopes.Matched
		if op.PathEvidence == scopes.Inferred {
			want = scopes.Off
		}
		if m := off.Match(op.Method, sample(op.Path)); m.Outcome != want || m.Operation != op {
			t.Errorf("%s: outcome %d, want %d", op.ID, m.Outcome, want)
		}
		if s, ok := op.Scope(); ok && off.Needed().Has(s) != (want == scopes.Matched) {
			t.Errorf("%s is needed: %v", s, off.Needed().Has(s))
		}
	}
	if on.Needed() != scopes.All() {
		t.Errorf("nothing needs %s", scopes.All().Minus(on.Needed()))
	}
}

func TestMatch(t *testing.T) {
	r := router(t, false)
	long := strings.Repeat("x", scopes.MaxIDLength)
	tests := []struct {
		name, method, path string
		want               scopes.Outcome
		id                 string // of the operation
		allow              string
	}{
		{name: "list", method: "GET", path: "/api/v1/members", want: scopes.Matched, id: "listMembers"},
		{name: "opaque id", method: "GET", path: "/api/v1/member/me~1._-", want: scopes.Matched, id: "getMember"},
		{name: "dots that are no dot segment", method: "GET", path: "/api/v1/member/...", want: scopes.Matched, id: "getMember"},
		{name: "longest id", method: "GET", path: "/api/v1/member/" + long, want: scopes.Matched, id: "getMember"},
		{name: "an id longer", method: "GET", path: "/api/v1/member/" + long + "x", want: scopes.InvalidID, id: "getMember"},
		{name: "first of two ids longer", method: "POST", path: "/api/v1/relation/access-card/" + long + "x/system/1", want: scopes.InvalidID, id: "addAccessCardSystem"},
		{name: "token by UUID", method: "GET", path: "/api/v1/token/" + strings.ToUpper(uuid), want: scopes.Matched, id: "getToken"},
		{name: "token by another id", method: "DELETE", path: "/api/v1/token/1", want: scopes.InvalidID, id: "revokeToken"},
		{name: "token by a UUID with braces left out", method: "GET", path: "/api/v1/token/" + strings.ReplaceAll(uuid, "-", ""), want: scopes.InvalidID, id: "getToken"},

		{name: "other methods", method: "DELETE", path: "/api/v1/members", want: scopes.WrongMethod, allow: "GET"},
		{name: "several allowed", method: "PATCH", path: "/api/v1/member/1", want: scopes.WrongMethod, allow: "DELETE, GET, PUT"},
		// Off is not allowed: the list must not advertise it.
		{name: "one of them off", method: "PATCH", path: "/api/v1/group/1", want: scopes.WrongMethod, allow: "GET, PUT"},
		{name: "all of them off", method: "PATCH", path: "/api/v1/gateway/1", want: scopes.Off, id: "getGateway"},
		{name: "that one off", method: "DELETE", path: "/api/v1/group/1", want: scopes.Off, id: "deleteGroup"},
		{name: "HEAD is not GET", method: "HEAD", path: "/api/v1/members", want: scopes.WrongMethod, allow: "GET"},
		{name: "method in small letters", method: "get", path: "/api/v1/members", want: scopes.WrongMethod, allow: "GET"},
		{name: "no method", method: "", path: "/api/v1/members", want: scopes.WrongMethod, allow: "GET"},

		{name: "root", method: "GET", path: "/", want: scopes.NotCanonical},
		{name: "prefix of a path", method: "GET", path: "/api/v1", want: scopes.Unknown},
		{name: "prefix of a segment", method: "GET", path: "/api/v1/memberss", want: scopes.Unknown},
		{name: "below a list", method: "GET", path: "/api/v1/members/1", want: scopes.Unknown},
		{name: "below an object", method: "GET", path: "/api/v1/member/1/groups", want: scopes.Unknown},
		{name: "half a relation", method: "POST", path: "/api/v1/relation/access-card/1/system", want: scopes.Unknown},
		{name: "an object without its id", method: "GET", path: "/api/v1/relation", want: scopes.Unknown},
		{name: "undocumented, seen in the wild", method: "GET", path: "/api/v1/relations", want: scopes.Unknown},
		{name: "undocumented, by one id", method: "DELETE", path: "/api/v1/relation/1", want: scopes.Unknown},
		{name: "letter case", method: "GET", path: "/api/v1/Members", want: scopes.Unknown},
		{name: "another version", method: "GET", path: "/api/v2/members", want: scopes.Unknown},
		{name: "template itself", method: "GET", path: "/api/v1/member/{teamMemberId}", want: scopes.NotCanonical},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := r.Match(tt.method, tt.path)
			if m.Outcome != tt.want || m.Allow != tt.allow {
				t.Fatalf("outcome %d, Allow %q", m.Outcome, m.Allow)
			}
			if got := idOf(m); got != tt.id {
				t.Errorf("operation %q, want %q", got, tt.id)
			}
		})
	}
}

func idOf(m scopes.Match) string {
	if m.Operation == nil {
		return ""
	}
	return m.Operation.ID
}

// respell gives other spellings of a path: bytes that some program between
// here and the API's code reads as the same path. Were one of them matched as
// sent, or cleaned and matched, then what was decided here could be done
// there to another path.
func respell(p string) []string {
	list := []string{
		p + "/", p + "//", p + "/.", p + "/..", p + "/x/..", p + ";", p + ";v=1", p + "?", p + "#", p + "#x", p + "%00", p + "\x00",
		p + "%20", p + " ", p + "\t", p + "%0a", p + "\n", p + ".json%00", p + "%3F", p + "%23",
		"/" + p, "//host" + p, "/." + p, "/x/.." + p, "/%2e%2e" + p, "." + p, p[1:], "http://host" + p, "*" + p,
		strings.ReplaceAll(p, "/", "\\"), strings.ReplaceAll(p, "/", "%2f"), strings.ReplaceAll(p, "/", "%2F"),
		strings.ReplaceAll(p, "/", "%5c"), strings.ReplaceAll(p, "/", "%252f"), strings.ReplaceAll(p, "/", "//"),
		strings.ReplaceAll(p, "/", "/./"), strings.ReplaceAll(p, "/", "/a/../"), strings.ReplaceAll(p, "/", ";/"),
		strings.ReplaceAll(p, "/", "\u2215"), strings.ReplaceAll(p, "/", "\xc0\xaf"), // overlong
	}
	for i := 1; i < len(p); i++ {
		const hex = "0123456789abcdef"
		escape := "%" + string(hex[p[i]>>4]) + string(hex[p[i]&15])
		list = append(list, p[:i]+escape+p[i+1:], p[:i]+strings.ToUpper(escape)+p[i+1:], p[:i]+"%25"+escape[1:]+p[i+1:])
	}
	return list
}

func TestMatchRejectsOtherSpellings(t *testing.T) {
	r := router(t, true)
	for _, op := range scopes.Operations() {
		for _, p := range respell(sample(op.Path)) {
			if m := r.Match(op.Method, p); m.Outcome != scopes.NotCanonical || m.Operation != nil {
				t.Errorf("%s %q: outcome %d, operation %q", op.Method, p, m.Outcome, idOf(m))
			}
		}
	}
}

// An operator's operation stands beside the catalogue's, or in the place of
// one that was only inferred, and never in that of a known one.
func TestRouterTakesAddedOperations(t *testing.T) {
	replaced := operation(t, "GET", "/api/v1/admin-logs", "admin-logs.read")
	beside := operation(t, "PATCH", "/api/v1/member/{id}", "members.update")
	deeper := operation(t, "GET", "/api/v1/report/{reportId}/page/{pageId}", "system-logs.read")
	r := router(t, false, replaced, beside, deeper)
	for _, op := range []*scopes.Operation{replaced, beside, deeper} {
		p := sample(op.Path)
		if m := r.Match(op.Method, p); m.Outcome != scopes.Matched || m.Operation != op || m.Path() != p {
			t.Errorf("%s %s: outcome %d, operation %q, path %s", op.Method, p, m.Outcome, idOf(m), m.Path())
		}
	}
	if m := r.Match("GET", "/api/v1/member/1"); idOf(m) != "getMember" {
		t.Errorf("the catalogue's own: %q", idOf(m))
	}
	if m := r.Match("POST", "/api/v1/member/1"); m.Allow != "DELETE, GET, PATCH, PUT" {
		t.Errorf("Allow %q", m.Allow)
	}
	if ops := r.Operations(); len(ops) != 53+2 || !slices.Contains(ops, replaced) {
		t.Errorf("%d operations; want the catalogue's, two more, and one in the place of an inferred one", len(ops))
	}
	for scope, want := range map[string]bool{"admin-logs.read": true, "gateways.read": false, "members.update": true} {
		s, err := scopes.Parse(scope)
		if err != nil || r.Needed().Has(s) != want {
			t.Errorf("%s needed: %t, want %t", scope, !want, want)
		}
	}

	known := operation(t, "PUT", "/api/v1/group/{id}", "groups.read")
	if _, err := scopes.NewRouter(true, known); err == nil {
		t.Error("a documented operation was given a weaker scope")
	}
	if _, err := scopes.NewRouter(false, beside, operation(t, "PATCH", "/api/v1/member/{other}", "members.read")); err == nil {
		t.Error("one operation was added twice")
	}
}

func TestNewOperation(t *testing.T) {
	tests := []struct {
		method, path, scope string
		body                scopes.Body
		ofTokens            bool
	}{
		{"GET", "/api/v1/new/{id}", "devices.read", scopes.JSONBody, false},
		{"POST", "/api/v1/device", "devices.delete", scopes.JSONBody, false},
		{"DELETE", "/api/v1/device/{a}/member/{b}", "devices.delete", scopes.NoBody, false},
		{"GET", "/api/v1/report", "systems.read-all", scopes.JSONBody, false},
		// What changes a member may set a password, whichever of scope and
		// path tells so.
		{"PATCH", "/api/v1/profile/{id}", "members.update", scopes.MemberBody, false},
		{"PATCH", "/api/v1/member/{id}", "groups.update", scopes.MemberBody, false},
		{"PUT", "/api/v1/Member/{id}/profile", "groups.update", scopes.MemberBody, false},
		{"DELETE", "/api/v1/member/{id}/session", "members.update", scopes.NoBody, false},
		{"GET", "/api/v1/member/{id}/groups", "members.read", scopes.JSONBody, false},
		// What may be about tokens is.
		{"GET", "/api/v1/new/{id}", "token.read", scopes.JSONBody, true},
		{"GET", "/api/v1/Token-usage", "devices.read", scopes.JSONBody, true},
		{"GET", "/api/v1/device/token", "devices.read", scopes.JSONBody, false},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			op := operation(t, tt.method, tt.path, tt.scope)
			if op.Body != tt.body || op.PathEvidence != scopes.Operator {
				t.Errorf("body %s by %s", op.Body, op.PathEvidence)
			}
			if op.OfTokens() != tt.ofTokens {
				t.Errorf("of tokens: %v", op.OfTokens())
			}
			if s, ok := op.Scope(); !ok || s != scope(t, tt.scope) {
				t.Errorf("needs %s, %v", s, ok)
			}
			if !op.PermittedBy(set(t, tt.scope)) || op.PermittedBy(scopes.All().Minus(set(t, tt.scope))) {
				t.Error("another scope decides")
			}
		})
	}
}

func TestNewOperationRejects(t *testing.T) {
	tests := []struct{ name, method, path, scope, says string }{
		{"method", "HEAD", "/api/v1/new", "devices.read", "expected one of"},
		{"method in small letters", "get", "/api/v1/new", "devices.read", "expected one of"},
		{"misspelt scope", "GET", "/api/v1/new", "device.read", "devices.read"},
		{"glob for a scope", "GET", "/api/v1/new", "devices.*", "unknown scope"},
		{"no scope", "GET", "/api/v1/new", "", "unknown scope"},
		{"relative", "GET", "api/v1/new", "devices.read", "expected a path"},
		{"empty path", "GET", "", "devices.read", "expected a path"},
		{"another root", "GET", "/admin/v1/new", "devices.read", "under /api/v1/"},
		{"the root itself", "GET", "/api/v1", "devices.read", "under /api/v1/"},
		{"the root with a slash", "GET", "/api/v1/", "devices.read", "expected a path"},
		{"out of the root", "GET", "/api/v1/../v2/new", "devices.read", "expected a path"},
		{"empty segment", "GET", "/api/v1//new", "devices.read", "expected a path"},
		{"trailing slash", "GET", "/api/v1/new/", "devices.read", "expected a path"},
		{"escape", "GET", "/api/v1/n%65w", "devices.read", "expected a path"},
		{"query", "GET", "/api/v1/new?all=1", "devices.read", "expected a path"},
		{"space", "GET", "/api/v1/new ", "devices.read", "expected a path"},
		{"half an id", "GET", "/api/v1/new/{id", "devices.read", "expected a path"},
		{"id and more", "GET", "/api/v1/new/{id}.json", "devices.read", "expected a path"},
		{"id without a name", "GET", "/api/v1/new/{}", "devices.read", "expected a path"},
		{"wildcard", "GET", "/api/v1/new/*", "devices.read", "expected a path"},
		{"rest of the path", "GET", "/api/v1/new/{id...}/{$}", "devices.read", "expected a path"},
		{"three ids", "GET", "/api/v1/new/{a}/{b}/{c}", "devices.read", "at most two"},
		// An id there would match every resource, the token API too.
		{"id for the resource", "GET", "/api/v1/{any}/{id}", "devices.read", "must be plain"},
		{"token API", "GET", "/api/v1/tokens/all", "devices.read", "token API"},
		{"token API, one token", "PUT", "/api/v1/token/{tokenId}", "token.create", "token API"},
		{"token API, other letters", "PUT", "/api/v1/Token/{tokenId}", "devices.read", "token API"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			op, err := scopes.NewOperation(tt.method, tt.path, tt.scope)
			if err == nil {
				t.Fatalf("made %+v", op)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %q does not say %q", err, tt.says)
			}
		})
	}
}

func TestLocalNeedsNoScope(t *testing.T) {
	op := scopes.Local("whoami", "GET", "/_scopegate/v1/whoami")
	r := router(t, false, op)
	if m := r.Match("GET", "/_scopegate/v1/whoami"); m.Operation != op || m.Outcome != scopes.Matched {
		t.Fatalf("outcome %d, operation %q", m.Outcome, idOf(m))
	}
	if !op.PermittedBy(scopes.Set{}) {
		t.Error("it needs a scope")
	}
	defer func() {
		if recover() == nil {
			t.Error("a path that never matches was taken")
		}
	}()
	scopes.Local("bad", "GET", "/a//b")
}

func TestIsUUID(t *testing.T) {
	for s, want := range map[string]bool{
		uuid: true, strings.ToUpper(uuid): true, "00000000-0000-0000-0000-000000000000": true,
		"": false, uuid[1:]: false, uuid + "0": false, "{" + uuid + "}": false, "urn:uuid:" + uuid: false,
		strings.ReplaceAll(uuid, "-", ""): false, strings.Replace(uuid, "-", "0", 1): false,
		strings.Replace(uuid, "6", "g", 1): false, strings.Replace(uuid, "6", "-", 1): false,
	} {
		if scopes.IsUUID(s) != want {
			t.Errorf("IsUUID(%q) is %v", s, !want)
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	r := router(t, false)
	for _, p := range []string{
		"/api/v1/members", "/api/v1/member/1", "/api/v1/relation/access-card/1/system/2", "/api/v1/token/1",
		"/api/v1/gateways", "/api/v1/nothing", "/api/v1/members/", "/%2e%2e/api",
	} {
		if n := testing.AllocsPerRun(100, func() { r.Match("GET", p); r.Match("POST", p) }); n != 0 {
			t.Errorf("%s: %v allocations", p, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	r := router(b, true)
	for name, p := range map[string]string{
		"plain": "/api/v1/members", "one id": "/api/v1/token/" + uuid,
		"two ids": "/api/v1/relation/access-card/" + uuid + "/system/" + uuid, "unknown": "/api/v1/nothing/" + uuid,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Match("GET", p)
			}
		})
	}
}

// FuzzMatch holds the router against regular expressions made from the
// templates, one by one, and the path against those who clean paths.
func FuzzMatch(f *testing.F) {
	for _, op := range scopes.Operations() {
		f.Add(op.Method, sample(op.Path))
	}
	for _, p := range respell("/api/v1/member/1") {
		f.Add("GET", p)
	}
	r := router(f, true)
	type template struct {
		op *scopes.Operation
		re *regexp.Regexp
	}
	var templates []template
	for _, op := range scopes.Operations() {
		// Every literal of the catalogue is canonical and holds no
		// metacharacter.
		templates = append(templates, template{op, regexp.MustCompile(`\A` + param.ReplaceAllString(op.Path, `([A-Za-z0-9._~-]+)`) + `\z`)})
	}
	// On the wire a path may be cleaned, decoded, or both, more than once.
	unreserved := regexp.MustCompile(`\A(/[A-Za-z0-9._~-]+)+\z`)
	canonical := func(p string) bool {
		decoded, err := url.PathUnescape(p)
		return err == nil && decoded == p && path.Clean(p) == p && unreserved.MatchString(p)
	}
	f.Fuzz(func(t *testing.T, method, p string) {
		m := r.Match(method, p)
		if (m.Outcome == scopes.NotCanonical) == canonical(p) {
			t.Fatalf("%q: outcome %d", p, m.Outcome)
		}
		want := scopes.Match{Outcome: scopes.Unknown}
		var allow []string
		for _, tm := range templates {
			ids := tm.re.FindStringSubmatch(p)
			if ids == nil || !canonical(p) {
				continue
			}
			allow = append(allow, tm.op.Method)
			if tm.op.Method != method {
				continue
			}
			if want.Operation != nil {
				t.Fatalf("%q is both %s and %s", p, want.Operation.ID, tm.op.ID)
			}
			want = scopes.Match{Outcome: scopes.Matched, Operation: tm.op}
			copy(want.Params[:], ids[1:])
			for _, id := range ids[1:] {
				if len(id) > scopes.MaxIDLength || strings.Contains(tm.op.Path, "{tokenId}") && !scopes.IsUUID(id) {
					want.Outcome = scopes.InvalidID
				}
			}
		}
		if len(allow) > 0 && want.Operation == nil {
			slices.Sort(allow)
			want = scopes.Match{Outcome: scopes.WrongMethod, Allow: strings.Join(allow, ", ")}
		}
		if !canonical(p) {
			want = scopes.Match{Outcome: scopes.NotCanonical}
		}
		if m != want {
			t.Fatalf("%s %q: %+v, want %+v", method, p, m, want)
		}
		if m.Outcome != scopes.Matched {
			return
		}
		if m.Path() != p {
			t.Fatalf("%q goes upstream as %q", p, m.Path())
		}
		// Go's own reading of what goes upstream: no query, no fragment, no
		// other path.
		if u, err := url.ParseRequestURI(m.Path()); err != nil || u.Path != p || u.EscapedPath() != p || u.RawQuery != "" || u.Host != "" {
			t.Fatalf("%q is read as %+v, %v", p, u, err)
		}
		for _, other := range respell(p) {
			if got := r.Match(method, other); got.Outcome != scopes.NotCanonical {
				t.Fatalf("%q is another spelling of %q: outcome %d", other, p, got.Outcome)
			}
		}
	})
}

// FuzzNewOperation: a template that is taken can be asked for, goes upstream
// as asked, stays out of the token API, and takes no request from a documented
// operation.
func FuzzNewOperation(f *testing.F) {
	for _, p := range []string{
		"/api/v1/new/{id}", "/api/v1/member/{id}/{x}", "/api/v1/member/export", "/api/v1/admin-logs",
		"/api/v1/token/{x}", "/api/v1/{a}", "/api/v1/a/../b", "/api/v1/x{y}",
	} {
		f.Add(http.MethodGet, p)
		f.Add(http.MethodPatch, p)
	}
	outside := regexp.MustCompile(`(?i)\A/api/v1/tokens?(/|\z)`)
	f.Fuzz(func(t *testing.T, method, template string) {
		op, err := scopes.NewOperation(method, template, "devices.read")
		if err != nil {
			return
		}
		p := sample(template)
		if !strings.HasPrefix(p, "/api/v1/") || outside.MatchString(p) {
			t.Fatalf("%q was taken", template)
		}
		r, err := scopes.NewRouter(true, op)
		if err != nil {
			return // a documented operation
		}
		if m := r.Match(method, p); m.Outcome != scopes.Matched || m.Operation != op || m.Path() != p {
			t.Fatalf("%s %q: outcome %d, operation %q", method, p, m.Outcome, idOf(m))
		}
		for _, known := range scopes.Operations() {
			m := r.Match(known.Method, sample(known.Path))
			if m.Operation != known && (m.Operation != op || known.PathEvidence != scopes.Inferred) {
				t.Fatalf("with %s %q, %s is %q", method, template, known.ID, idOf(m))
			}
		}
	})
}
