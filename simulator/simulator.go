// Package simulator is a stateful stand-in for the GoodAccess integration API,
// for tests and offline work. It answers all 53 operations known of that API
// out of memory, starting from a small seeded account:
//
//	sim := simulator.New(simulator.Options{})
//	upstream := httptest.NewServer(sim)
//	defer upstream.Close()
//	// Call upstream.URL with "Authorization: Bearer " + sim.Master().
//
// State is real. What is created can be listed, linked, changed and removed;
// a token made by POST /api/v1/token works at once, and works only for its
// scopes, until its expiry and from its addresses. Requests shows what
// arrived, and Fail makes an operation go wrong in a chosen way.
//
// # Where the API is not documented
//
// The simulator takes the reading that is worst for whoever relies on the
// API, so that a client or a gateway that is careless about it is found out:
//
//   - A token made without allowed_scopes, or with none, carries every scope;
//     without allowed_ips it works from everywhere; without expires_at it
//     never ends. Nothing holds a new token to the scopes of its maker.
//   - Tokens may read and revoke every token, themselves and the master too.
//   - JSON names match in any letter case, the last of two equal names wins,
//     unknown names and the Content-Type are ignored.
//   - A date that does not exist rolls over: February 30 is March 1 or 2.
//   - Paths are unescaped and cleaned before they are matched, and a POST may
//     name another method in X-HTTP-Method-Override or in ?_method=.
//   - The first address in X-Forwarded-For is believed to be the client's.
//     (So tests on loopback can try address lists.)
//
// Successes are 200 throughout. Error bodies hold error and error_description.
// The texts of messages, and the answers of the operations whose evidence is
// scopes.Inferred, are guesses.
//
// The simulator never stands between a caller and a real account: it forwards
// nothing, keeps nothing on disk and knows no configuration of a gateway. Of
// the gateway's packages it shares only the catalogue's data; it matches
// paths and reads bodies in its own way, so that the two cannot err together.
package simulator

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/scopegate/scopegate/scopes"
)

// MaxBody is the largest request body that is read, in bytes; a larger one is
// answered with 413.
const MaxBody = 1 << 20

// Options say what account is simulated. The zero value is a good default.
type Options struct {
	// MasterToken is the secret of the token that the account starts with. It
	// carries every scope and never expires. Default: a new random one.
	MasterToken string
	// Shape is how lists and objects are wrapped. Default: Bare.
	Shape Shape
	// Zone is the time zone of all times in bodies, which carry none of their
	// own. Default: UTC.
	Zone *time.Location
	// Now is the clock. Default: time.Now. It is called from many goroutines.
	Now func() time.Time
	// TokenFields are the fields of a token that list and read answers show,
	// out of id, name, created_at, expires_at, allowed_ips, allowed_scopes and
	// token. Default: all but token, which is the secret; the master's secret
	// is never shown. New panics on any other name.
	TokenFields []string
}

// Simulator is one simulated account, an http.Handler. All methods may be
// called at any time from any goroutine.
type Simulator struct {
	shape  Shape
	zone   *time.Location
	now    func() time.Time
	mux    *http.ServeMux
	record record

	mu     sync.Mutex // guards what follows
	world  *world
	faults []*Fault
}

// New makes an account with the seeded data in it.
func New(o Options) *Simulator {
	if o.MasterToken == "" {
		o.MasterToken = newSecret()
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Simulator{shape: o.Shape, zone: o.Zone, now: o.Now, mux: http.NewServeMux()}
	s.world = newWorld(o, s.clock())
	s.route()
	return s
}

// Master returns the present secret of the master token.
func (s *Simulator) Master() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.world.tokens.master.secret
}

// MasterID returns the id of the master token in the token API.
func (s *Simulator) MasterID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.world.tokens.master.id
}

// ExpireMaster ends the master token now: whoever uses it gets 401.
func (s *Simulator) ExpireMaster() {
	now := s.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.tokens.master.expires = now
}

// RenewMaster gives the master token another secret, "" for a random one, and
// no expiry, and returns the secret. The old secret is refused from then on.
func (s *Simulator) RenewMaster(secret string) string {
	if secret == "" {
		secret = newSecret()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.tokens.renewMaster(secret)
	return secret
}

func newSecret() string { return "simulated-" + rand.Text() }

func (s *Simulator) clock() time.Time { return s.now().In(s.zone) }

// route registers each catalogued operation, and for each of their paths an
// answer to other methods.
func (s *Simulator) route() {
	actions := s.world.actions()
	methods := map[string][]string{}
	for _, op := range scopes.Operations() {
		act, ok := actions[op.ID]
		if !ok {
			panic("simulator: no action for the operation " + op.ID) // a mistake of this source tree
		}
		s.mux.HandleFunc(op.Method+" "+op.Path, func(w http.ResponseWriter, r *http.Request) {
			s.serve(w, r, op, act)
		})
		methods[op.Path] = append(methods[op.Path], op.Method)
	}
	for path, list := range methods {
		slices.Sort(list)
		allow := strings.Join(list, ", ")
		s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			s.record.add(seenIn(r))
			a := s.render(failed(http.StatusMethodNotAllowed, "method_not_allowed", "This path has other methods"))
			a.Header.Set("Allow", allow)
			a.Send(w)
		})
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.record.add(seenIn(r))
		s.render(failed(http.StatusNotFound, "not_found", "No such path")).Send(w)
	})
}

// ServeHTTP answers one request of the API.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body []byte
	var err error
	if r.Body != nil {
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	}
	seen := Seen{
		Method: r.Method, Host: r.Host, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery,
		Header: r.Header.Clone(), Body: body,
	}
	if err != nil {
		s.record.add(seen)
		refusal := failed(http.StatusBadRequest, "bad_request", "The body could not be read")
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			refusal = failed(http.StatusRequestEntityTooLarge, "too_large", "The body is too large")
		}
		s.render(refusal).Send(w)
		return
	}
	s.mux.ServeHTTP(w, careless(r, seen))
}

// careless returns the request as an upstream might read it that is not
// careful: whoever passes on a path or a header that it did not check itself
// ends up at another operation than the one it judged.
func careless(r *http.Request, seen Seen) *http.Request {
	c := r.WithContext(context.WithValue(r.Context(), seenKey{}, seen))
	c.URL = &url.URL{Path: path.Clean("/" + r.URL.Path), RawQuery: r.URL.RawQuery}
	c.Body = io.NopCloser(bytes.NewReader(seen.Body))
	if r.Method == http.MethodPost {
		for _, other := range []string{r.Header.Get("X-HTTP-Method-Override"), r.URL.Query().Get("_method")} {
			if other != "" {
				c.Method = strings.ToUpper(other)
				break
			}
		}
	}
	return c
}

// serve answers an operation, or lets a fault do it.
func (s *Simulator) serve(w http.ResponseWriter, r *http.Request, op *scopes.Operation, act action) {
	seen := seenIn(r)
	seen.Operation = op.ID
	s.record.add(seen)
	answer := func() Answer { return s.answer(r, op, act) }
	if effect := s.fault(op.ID); effect != nil {
		effect(w, r, answer)
		return
	}
	answer().Send(w)
}

// answer carries the operation out. The reply is encoded under the lock,
// since it points into the state.
func (s *Simulator) answer(r *http.Request, op *scopes.Operation, act action) Answer {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return s.render(failed(http.StatusBadRequest, "bad_request", "The body could not be read"))
	}
	c := &call{ids: pathIDs(r, op.Path), body: body, now: s.clock()}
	from := clientAddr(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	by, refusal := s.world.tokens.authorize(r.Header.Get("Authorization"), from, op, c.now)
	if refusal != nil {
		return s.render(*refusal)
	}
	c.by = by
	made := act(c)
	if made.status == http.StatusOK && !op.Reads() {
		s.world.noteChange(op.ID, c)
	}
	return s.render(made)
}

// pathIDs returns the ids in the path in the order of the template.
func pathIDs(r *http.Request, template string) []string {
	var ids []string
	for segment := range strings.SplitSeq(template, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			ids = append(ids, r.PathValue(strings.TrimSuffix(name, "}")))
		}
	}
	return ids
}
