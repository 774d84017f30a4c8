package scopes

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// MaxParams is the largest number of ids in one path of the API.
const MaxParams = 2

// MaxIDLength bounds one id in a path, in bytes. The longest seen is a UUID,
// 36; the bound only keeps records and upstream requests short.
const MaxIDLength = 128

// Outcome says how far a method and a path got.
type Outcome uint8

// The zero value is a refusal.
const (
	Unknown      Outcome = iota // no operation has this path
	NotCanonical                // the path could be read in more than one way
	Off                         // known, but inferred and not turned on
	WrongMethod                 // the path is known with other methods: Allow
	InvalidID                   // an operation, but an id is not of its form
	Matched
)

// Match is what a method and a path stand for.
type Match struct {
	Outcome   Outcome
	Operation *Operation // set for Matched, InvalidID and Off
	// Params are the ids in the path, in order; unused ones are empty.
	Params [MaxParams]string
	// Allow lists the methods that the path has, for WrongMethod.
	Allow string
}

// Path returns the path that goes upstream: built from the template and the
// checked ids, not copied from the request. For a canonical path the two are
// the same bytes, which the tests hold.
func (m Match) Path() string {
	if m.Params[0] == "" {
		return m.Operation.Path
	}
	var b strings.Builder
	next := 0
	for _, s := range m.Operation.segments {
		b.WriteByte('/')
		if s.param {
			b.WriteString(m.Params[next])
			next++
		} else {
			b.WriteString(s.text)
		}
	}
	return b.String()
}

// segment is one piece of a template between slashes.
type segment struct {
	text  string // the literal, or the parameter's name
	param bool
	uuid  bool
}

// Router matches requests to operations. It is built once when a
// configuration loads and not changed after.
type Router struct {
	root   node
	routes []*route
}

// node is one segment deep: literals first, then one parameter.
type node struct {
	literals map[string]*node
	param    *node
	uuid     bool // this node stands for an id that must be a UUID
	methods  []*route
	allow    string
}

type route struct {
	op *Operation
	on bool
}

// NewRouter builds a router over the catalogue and the operations that an
// operator added. Inferred operations match as Off unless inferred is set. An
// added operation takes the place of a catalogued one only where that one is
// inferred, since it tells what was guessed.
func NewRouter(inferred bool, added ...*Operation) (*Router, error) {
	r := &Router{}
	for _, op := range catalogue.operations {
		if err := r.add(op, inferred || op.PathEvidence != Inferred); err != nil {
			return nil, err
		}
	}
	for _, op := range added {
		if err := r.add(op, true); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Router) add(op *Operation, on bool) error {
	n := &r.root
	for _, s := range op.segments {
		switch {
		case s.param:
			if n.param == nil {
				n.param = &node{uuid: s.uuid}
			}
			n = n.param
		default:
			if n.literals == nil {
				n.literals = map[string]*node{}
			}
			if n.literals[s.text] == nil {
				n.literals[s.text] = &node{}
			}
			n = n.literals[s.text]
		}
	}
	i := slices.IndexFunc(n.methods, func(have *route) bool { return have.op.Method == op.Method })
	switch {
	case i < 0:
		added := &route{op, on}
		n.methods, r.routes = append(n.methods, added), append(r.routes, added)
	case n.methods[i].op.PathEvidence == Inferred:
		*n.methods[i] = route{op, on}
	default:
		return fmt.Errorf("operation %s %s stands twice", op.Method, op.Path)
	}
	var allowed []string
	for _, m := range n.methods {
		if m.on {
			allowed = append(allowed, m.op.Method)
		}
	}
	sort.Strings(allowed)
	n.allow = strings.Join(allowed, ", ")
	return nil
}

// Operations returns all that the router knows, those that are off included.
func (r *Router) Operations() []*Operation {
	var list []*Operation
	for _, known := range r.routes {
		list = append(list, known.op)
	}
	return list
}

// Needed returns the scopes that some operation which is on needs. A grant of
// another scope is of no use here.
func (r *Router) Needed() Set {
	var needed Set
	for _, known := range r.routes {
		if s, ok := known.op.Scope(); ok && known.on {
			needed = needed.Union(Of(s))
		}
	}
	return needed
}

// Match finds the operation of a method and an escaped path, as
// url.URL.EscapedPath gives it. Only a canonical path matches: every byte
// unreserved (RFC 3986, section 2.3), no empty and no dot segment, hence no
// percent sign at all. Another spelling is refused and never cleaned, since
// whoever cleans differently upstream would act on another path than the one
// that was decided. Match does not allocate.
func (r *Router) Match(method, path string) Match {
	if !canonical(path) {
		return Match{Outcome: NotCanonical}
	}
	var m Match
	n, rest, params, badID := &r.root, path[1:], 0, false
	for {
		seg, tail, more := strings.Cut(rest, "/")
		if next := n.literals[seg]; next != nil {
			n = next
		} else if n.param != nil && params < MaxParams {
			n = n.param
			badID = badID || !validID(seg, n.uuid)
			m.Params[params] = seg
			params++
		} else {
			return Match{Outcome: Unknown}
		}
		if !more {
			break
		}
		rest = tail
	}
	if len(n.methods) == 0 {
		return Match{Outcome: Unknown}
	}
	for _, have := range n.methods {
		if have.op.Method != method {
			continue
		}
		m.Operation = have.op
		switch {
		case !have.on:
			m.Outcome = Off
		case badID:
			m.Outcome = InvalidID
		default:
			m.Outcome = Matched
		}
		return m
	}
	if n.allow == "" {
		return Match{Outcome: Off, Operation: n.methods[0].op}
	}
	return Match{Outcome: WrongMethod, Allow: n.allow}
}

// canonical reports whether a path has one reading only.
func canonical(path string) bool {
	if len(path) < 2 || path[0] != '/' {
		return false
	}
	start := 1
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			if !unreserved(path[i]) {
				return false
			}
			continue
		}
		switch path[start:i] {
		case "", ".", "..":
			return false
		}
		start = i + 1
	}
	return true
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

func validID(s string, uuid bool) bool {
	if uuid {
		return IsUUID(s)
	}
	return len(s) <= MaxIDLength
}

// IsUUID reports whether s is a UUID in its usual form, in either case.
func IsUUID[Text string | []byte](s Text) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return false
		}
	}
	return true
}

// AddedPrefix begins the id of an operation that an operator added. Its method
// and its path follow.
const AddedPrefix = "operator:"

// NewOperation makes an operation that an operator knows of and the
// catalogue does not. The scope must be a documented one, the path lie under
// /api/v1/ and outside of the token API, whose operations the gateway treats
// in ways of their own.
func NewOperation(method, path, scope string) (*Operation, error) {
	switch method {
	case "GET", "POST", "PUT", "PATCH", "DELETE":
	default:
		return nil, fmt.Errorf("method %q: expected one of GET, POST, PUT, PATCH, DELETE", method)
	}
	s, err := Parse(scope)
	if err != nil {
		return nil, err
	}
	segments, err := parseTemplate(path)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(path, "/api/v1/") {
		return nil, fmt.Errorf("path %q: expected one under /api/v1/", path)
	}
	switch first := segments[2]; {
	case first.param:
		return nil, fmt.Errorf("path %q: the segment after /api/v1/ must be plain, so that it names one resource", path)
	case strings.EqualFold(first.text, "token") || strings.EqualFold(first.text, "tokens"):
		// In any case of letters: upstream may not tell them apart.
		return nil, fmt.Errorf("path %q: the token API cannot be added to", path)
	}
	body := JSONBody
	switch {
	case method == "DELETE":
		body = NoBody
	case method != "GET" && (strings.HasPrefix(scope, "members.") || strings.EqualFold(segments[2].text, "member")):
		body = MemberBody // either says that it may set a password
	}
	answer := PlainAnswer
	if TokenScopes().Has(s) || strings.HasPrefix(strings.ToLower(segments[2].text), "token") {
		answer = TokenAnswer // either says that it may tell of tokens
	}
	return &Operation{
		ID: AddedPrefix + method + " " + path, Method: method, Path: path, Body: body, Answer: answer,
		PathEvidence: Operator, RequestEvidence: Operator, ResponseEvidence: Operator,
		scope: s, segments: segments,
	}, nil
}

// Local makes an operation that the gateway answers itself; any active
// credential may ask for it. The path must be a plain one.
func Local(id, method, path string) *Operation {
	segments, err := parseTemplate(path)
	if err != nil {
		panic(fmt.Sprintf("local operation %s: %v", id, err))
	}
	return &Operation{
		ID: id, Method: method, Path: path, Body: NoBody,
		PathEvidence: Operator, RequestEvidence: Operator, ResponseEvidence: Operator,
		anyScope: true, segments: segments,
	}
}

var errTemplate = errors.New("expected a path such as /api/v1/device/{deviceId}: plain segments, and at most two ids, each a whole segment in braces")

func parseTemplate(path string) ([]segment, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("path %q: %w", path, errTemplate)
	}
	var list []segment
	params := 0
	for text := range strings.SplitSeq(path[1:], "/") {
		name, braced := strings.CutPrefix(text, "{")
		name, closed := strings.CutSuffix(name, "}")
		if braced != closed || !canonical("/"+name) || strings.Contains(name, "/") {
			return nil, fmt.Errorf("path %q: %w", path, errTemplate)
		}
		if braced {
			params++
		}
		// Token ids are documented as UUIDs; the examples of gateway, system
		// and device member ids are not, so those stay opaque.
		list = append(list, segment{text: name, param: braced, uuid: braced && name == "tokenId"})
	}
	if params > MaxParams {
		return nil, fmt.Errorf("path %q: %w", path, errTemplate)
	}
	return list, nil
}
