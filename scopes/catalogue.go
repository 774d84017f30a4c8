// Package scopes holds what is known of the GoodAccess API: its 52 scopes,
// its 53 operations, which operation needs which scope, and how well each of
// those facts is known. It matches requests to operations and expands globs
// to scopes. It does no I/O and never decides whether a caller may do
// something.
//
// The facts are data (catalogue.json, embedded). The vendor documents scopes
// and paths but not which belong together; the pairing follows the scopes'
// descriptions and comes out one-to-one.
package scopes

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed catalogue.json
var catalogueJSON []byte

// Evidence says how a fact about the API is known.
type Evidence string

// From best known to least.
const (
	Docs     Evidence = "docs"     // read on a page of the vendor
	Seed     Evidence = "seed"     // read on the vendor's Tokens page
	Provider Evidence = "provider" // seen in a third-party Terraform provider
	Inferred Evidence = "inferred" // follows a naming pattern, never seen
	Operator Evidence = "operator" // added by the configuration
)

// Body says what an operation's request body may be.
type Body string

// The kinds of request bodies.
const (
	NoBody     Body = "none"   // must be empty
	JSONBody   Body = "json"   // empty or one JSON value, not judged further
	MemberBody Body = "member" // like JSONBody, but may hold a password
	TokenBody  Body = "token"  // a mint: judged field by field
)

// Answer says what an operation's answer may tell.
type Answer string

// The kinds of answers. What is neither is taken for TokenAnswer.
const (
	PlainAnswer Answer = "plain" // the same for whoever may ask
	TokenAnswer Answer = "token" // of tokens: it differs by caller, and may change the ledger
)

// Operation is one method and path template of the API.
type Operation struct {
	// ID is a stable word for records and metric labels, such as listMembers.
	ID     string
	Method string
	// Path is the template, such as /api/v1/member/{teamMemberId}.
	Path   string
	Body   Body
	Answer Answer
	// PathEvidence says how the path is known; an Inferred one is off until
	// the configuration turns it on.
	PathEvidence, RequestEvidence, ResponseEvidence Evidence

	scope    Scope
	anyScope bool
	segments []segment
}

// Scope returns the scope that the operation needs; ok is false where any
// active credential will do.
func (o *Operation) Scope() (s Scope, ok bool) { return o.scope, !o.anyScope }

// ScopeName returns the name of the scope needed, "" where there is none.
func (o *Operation) ScopeName() string {
	if o.anyScope {
		return ""
	}
	return o.scope.String()
}

// PermittedBy reports whether the set holds the scope that is needed.
func (o *Operation) PermittedBy(granted Set) bool { return o.anyScope || granted.Has(o.scope) }

// Reads reports whether the operation only reads.
func (o *Operation) Reads() bool { return o.Method == "GET" }

// Documented reports whether the path was read or seen somewhere, as against
// those that are inferred or that an operator added.
func (o *Operation) Documented() bool {
	return o.PathEvidence == Docs || o.PathEvidence == Seed || o.PathEvidence == Provider
}

// OfTokens reports whether it is about tokens, as each operation is that is not
// known to be about something else: it is never only watched, and its answer
// never shared.
func (o *Operation) OfTokens() bool { return o.Answer != PlainAnswer }

// The ids of the four operations of the token API, which the gateway treats
// each in its own way.
const (
	ListTokens  = "listTokens"
	GetToken    = "getToken"
	RevokeToken = "revokeToken"
	CreateToken = "createToken"
)

type scopeRow struct {
	Name      string   `json:"name"`
	Evidence  Evidence `json:"evidence"`
	NamedOnly bool     `json:"named_only"` // no glob matches it
}

type operationRow struct {
	ID       string `json:"id"`
	Method   string `json:"method"`
	Path     string `json:"path"`
	Scope    string `json:"scope"`
	Body     Body   `json:"body"`
	Answer   Answer `json:"answer"`
	Evidence struct {
		Path     Evidence `json:"path"`
		Request  Evidence `json:"request"`
		Response Evidence `json:"response"`
	} `json:"evidence"`
}

// catalogue is the embedded data, read once. A mistake in it is a mistake of
// this source tree, hence the panic: no build with one passes its own tests.
var catalogue = mustLoad(catalogueJSON)

type loaded struct {
	version     string
	scopes      []scopeRow
	spellings   [][][]string     // of each scope its names, in words: a large configuration has globs by the thousand
	byName      map[string]Scope // canonical names and aliases
	names       []string         // the same, for suggestions
	tokenScopes Set
	operations  []*Operation
}

func mustLoad(data []byte) *loaded {
	var raw struct {
		Version string     `json:"version"`
		Scopes  []scopeRow `json:"scopes"`
		Aliases []struct {
			Name string `json:"name"`
			Use  string `json:"use"`
		} `json:"aliases"`
		Operations []operationRow `json:"operations"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		panic(fmt.Sprintf("reading the embedded catalogue: %v", err))
	}
	c := &loaded{
		version: raw.Version, scopes: raw.Scopes,
		byName: map[string]Scope{},
	}
	for i, row := range raw.Scopes {
		s := Scope(i)
		c.byName[row.Name] = s
		c.names = append(c.names, row.Name)
		c.spellings = append(c.spellings, [][]string{scopeWords(row.Name)})
		if strings.HasPrefix(row.Name, "token.") {
			c.tokenScopes.bits |= 1 << s
		}
	}
	for _, a := range raw.Aliases {
		s, ok := c.byName[a.Use]
		if !ok {
			panic(fmt.Sprintf("reading the embedded catalogue: alias %q of unknown scope %q", a.Name, a.Use))
		}
		c.byName[a.Name] = s
		c.spellings[s] = append(c.spellings[s], scopeWords(a.Name))
		c.names = append(c.names, a.Name)
	}
	for _, row := range raw.Operations {
		o := &Operation{
			ID: row.ID, Method: row.Method, Path: row.Path, Body: row.Body, Answer: row.Answer,
			PathEvidence: row.Evidence.Path, RequestEvidence: row.Evidence.Request,
			ResponseEvidence: row.Evidence.Response, anyScope: row.Scope == "",
		}
		if !o.anyScope {
			s, ok := c.byName[row.Scope]
			if !ok {
				panic(fmt.Sprintf("reading the embedded catalogue: %s needs unknown scope %q", row.ID, row.Scope))
			}
			o.scope = s
		}
		var err error
		if o.segments, err = parseTemplate(row.Path); err != nil {
			panic(fmt.Sprintf("reading the embedded catalogue: %s: %v", row.ID, err))
		}
		c.operations = append(c.operations, o)
	}
	return c
}

// Version names the state of the embedded catalogue.
func Version() string { return catalogue.version }

// Operations returns the 53 catalogued operations.
func Operations() []*Operation { return append([]*Operation(nil), catalogue.operations...) }

// Find returns the catalogued operation with an id, nil for none.
func Find(id string) *Operation {
	for _, o := range catalogue.operations {
		if o.ID == id {
			return o
		}
	}
	return nil
}

// ScopeEvidence says how the existence of a scope is known.
func ScopeEvidence(s Scope) Evidence { return catalogue.scopes[s].Evidence }
