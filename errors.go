package scopegate

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/tokens"
	"github.com/scopegate/scopegate/upstream"
)

// refusal is why a request was not served, with what the caller may be told.
type refusal struct {
	reason policy.Reason
	detail string // beyond the reason's own text; safe to show
	field  string // of the body, where one is at fault

	requested scopes.Set // by a mint

	upstreamStatus int
	retryAfter     time.Duration
}

func refuse(reason policy.Reason) *refusal { return &refusal{reason: reason} }

func refuseWith(reason policy.Reason, detail string) *refusal {
	return &refusal{reason: reason, detail: detail}
}

// refuseUpstream is the refusal where upstream could not be asked, or gave an
// answer that is not passed on.
func refuseUpstream(err error) *refusal {
	var e *upstream.Error
	if !errors.As(err, &e) {
		return refuse(policy.UpstreamBroken)
	}
	no := refuse(e.Reason)
	no.upstreamStatus, no.retryAfter = e.UpstreamStatus, e.RetryAfter
	return no
}

// refuseUnread is the refusal where reading an answer of the token API failed:
// it was not understood, or broke off.
func refuseUnread(err error) *refusal {
	if errors.Is(err, tokens.ErrShape) || errors.Is(err, tokens.ErrTooLarge) {
		return refuse(policy.UpstreamShape)
	}
	return refuseUpstream(err)
}

// of says which answer of upstream is refused, where nothing has said so yet.
func (no *refusal) of(resp *upstream.Response) *refusal {
	if no.upstreamStatus == 0 {
		no.upstreamStatus = resp.Status
	}
	return no
}

// statusClientGone is what nginx made customary for a caller that hung up. It
// is never sent, only recorded.
const statusClientGone = 499

// outcome is how a reason is told to a caller.
type outcome struct {
	status int
	text   string // a whole sentence; clients show it to their users
	// bearer is the error code of RFC 6750 where a challenge goes with it.
	bearer string
}

// outcomes is the one place that knows status codes. A reason that is missing
// from it fails a test.
//
// 404 is said of tokens alone: clients take it as "the object is gone" and
// make it anew, so whatever is merely forbidden is 403, unknown paths too.
var outcomes = map[policy.Reason]outcome{
	policy.Undecided:             {403, "The request was not decided, which is a fault of the gateway.", ""},
	policy.NoCredential:          {401, "No credential: send your key as `Authorization: Bearer <key>`.", "none"},
	policy.MultipleCredentials:   {401, "More than one Authorization header: send exactly one.", "invalid_token"},
	policy.MisplacedCredential:   {401, "A key stands in the path, the query or a header other than Authorization. Treat it as leaked to every log on the way and replace it; send keys as `Authorization: Bearer <key>` only.", "invalid_token"},
	policy.MalformedCredential:   {401, "The key is not well-formed: it was cut or mistyped.", "invalid_token"},
	policy.UnknownCredential:     {401, "The key is not known.", "invalid_token"},
	policy.CredentialSuspended:   {401, "The credential is suspended.", "invalid_token"},
	policy.CredentialRevoked:     {401, "The credential is revoked.", "invalid_token"},
	policy.CredentialExpired:     {401, "The credential has expired.", "invalid_token"},
	policy.CredentialNotYetValid: {401, "The credential is not valid yet.", "invalid_token"},
	policy.CredentialRetired:     {401, "The key was replaced by a new one and no longer works.", "invalid_token"},
	policy.TeamGone:              {401, "The credential's team no longer exists.", "invalid_token"},
	policy.ClientAddress:         {403, "Your address is not among those that the credential may be used from.", ""},
	policy.PathNotCanonical:      {403, "The path is not in its canonical form: no percent-encoding, no empty or dot segments, no trailing slash.", ""},
	policy.UnknownPath:           {403, "No known operation has this path.", ""},
	policy.InvalidID:             {403, "An id in the path is not of its form; token ids are UUIDs.", ""},
	policy.OperationOff:          {403, "The operation is inferred, not documented, and this gateway has not turned it on.", ""},
	policy.MethodNotAllowed:      {405, "The path is known, but not with this method.", ""},
	policy.InsufficientScope:     {403, "The credential does not hold the scope that the operation needs.", "insufficient_scope"},
	policy.RateLimited:           {429, "Too many requests.", ""},
	policy.TooManyInFlight:       {429, "Too many requests at once.", ""},
	policy.UnsupportedMediaType:  {415, "The body must be application/json in UTF-8.", ""},
	policy.ContentEncoding:       {415, "The body must not be encoded.", ""},
	policy.BodyTooLarge:          {413, "The body is too large.", ""},
	policy.UnexpectedBody:        {400, "The operation takes no body.", ""},
	policy.MalformedBody:         {400, "The body is not one strict JSON value.", ""},
	policy.MemberPassword:        {403, "The body sets a member's password, which this team may not.", ""},
	policy.MintNotGranted:        {403, "This team may not make tokens.", ""},
	policy.MintInvalid:           {422, "The token asked for is not valid.", ""},
	policy.MintScopes:            {403, "The token would carry scopes beyond the grant.", ""},
	policy.MintExpiry:            {403, "The token would live longer than the grant allows.", ""},
	policy.MintAddresses:         {403, "The token would work from addresses beyond the grant.", ""},
	policy.MintQuota:             {403, "The team has as many live tokens as it may have.", ""},
	policy.MintDailyQuota:        {403, "The team has made as many tokens today (UTC) as it may.", ""},
	policy.TokenNotFound:         {404, "There is no such token.", ""},
	policy.IdempotencyMismatch:   {422, "The Idempotency-Key was used for another request; use a new one.", ""},
	policy.IdempotencyConflict:   {409, "The Idempotency-Key was used before, and that request cannot be answered again.", ""},
	policy.AuditUnavailable:      {503, "The gateway cannot record requests at the moment and therefore serves none.", ""},
	policy.StoreUnavailable:      {503, "The gateway cannot ask its store at the moment, and so cannot tell whether the key is still good.", ""},
	policy.ClockSkew:             {503, "The gateway's clock and its store's differ too much to say when a token ends.", ""},
	policy.NoLedger:              {403, "This gateway keeps no store, and makes no tokens without one.", ""},
	policy.UpstreamBusy:          {503, "All places for requests upstream are taken.", ""},
	policy.UpstreamBreakerOpen:   {503, "GoodAccess has been failing; requests are held off for a moment.", ""},
	policy.UpstreamUnreachable:   {502, "GoodAccess could not be reached.", ""},
	policy.UpstreamTimeout:       {504, "GoodAccess did not answer in time.", ""},
	policy.UpstreamUnauthorized:  {502, "GoodAccess refused the gateway's own token. This is not about your credential; tell the operators.", ""},
	policy.UpstreamForbidden:     {502, "GoodAccess forbade the gateway's own token to do this. This is not about your credential; tell the operators.", ""},
	policy.UpstreamRedirect:      {502, "GoodAccess answered with a redirect, which is not followed.", ""},
	policy.UpstreamStatus:        {502, "GoodAccess answered with a status that is not passed on.", ""},
	policy.UpstreamError:         {502, "GoodAccess failed.", ""},
	policy.UpstreamShape:         {502, "GoodAccess answered in a shape that is not recognised, so nothing of it is passed on.", ""},
	policy.UpstreamWidened:       {502, "GoodAccess made a token that is not as it was asked for. It is being deleted; tell the operators.", ""},
	policy.UpstreamBroken:        {502, "The answer of GoodAccess broke off.", ""},
	policy.UpstreamLeak:          {502, "The answer of GoodAccess was withheld, since it held a secret of the gateway.", ""},
	policy.ClientGone:            {statusClientGone, "The caller hung up.", ""},
}

func statusOf(reason policy.Reason) int {
	if o, ok := outcomes[reason]; ok {
		return o.status
	}
	return http.StatusForbidden
}

// problem is the body of every refusal (RFC 9457). The API's clients show
// their users error_description, so that stands beside the standard members.
type problem struct {
	Type             string `json:"type"`
	Title            string `json:"title"`
	Status           int    `json:"status"`
	Detail           string `json:"detail"`
	Reason           string `json:"reason"`
	DecisionID       string `json:"decision_id"`
	DeniedBy         string `json:"denied_by"`
	Error            string `json:"error"`
	ErrorDescription string `json:"error_description"`
	Field            string `json:"field,omitempty"`
	ScopeNeeded      string `json:"scope_needed,omitempty"`
	UpstreamStatus   int    `json:"upstream_status,omitempty"`
}

func (no *refusal) problem(decision, scope string) problem {
	o := outcomes[no.reason]
	p := problem{
		Type:  "https://github.com/scopegate/scopegate/blob/main/docs/reasons.md#" + no.reason.String(),
		Title: http.StatusText(o.status), Status: o.status, Detail: no.text(),
		Reason: no.reason.String(), DecisionID: decision, DeniedBy: "gateway",
		Error: no.reason.String(), ErrorDescription: no.text(),
		Field: no.field, ScopeNeeded: scope, UpstreamStatus: no.upstreamStatus,
	}
	if !no.reason.Denies() {
		p.DeniedBy = "upstream"
	}
	return p
}

func (no *refusal) text() string {
	text := outcomes[no.reason].text
	if no.detail != "" {
		text += " " + no.detail
	}
	return text
}

// challenge is WWW-Authenticate, nil where none goes with the reason.
func challenge(why because) []string {
	switch o := outcomes[why.reason]; o.bearer {
	case "":
		return nil
	case "none":
		// RFC 6750, section 3.1: no error code where no credential came.
		return []string{`Bearer realm="scopegate"`}
	case "insufficient_scope":
		return []string{fmt.Sprintf(`Bearer realm="scopegate", error=%q, scope=%q`, o.bearer, why.scope)}
	default:
		return []string{fmt.Sprintf(`Bearer realm="scopegate", error=%q, error_description=%q`, o.bearer, o.text)}
	}
}

// spoken is how a refusal is told that says no more than its reason: the same
// each time, around the decision's id. It is made beforehand, since a stranger
// can be refused as often as he likes.
type spoken struct {
	before, after string
	challenge     []string
}

// because is what a spoken refusal depends on.
type because struct {
	reason policy.Reason
	scope  string // that was needed, of InsufficientScope
}

var spokenFor = func() map[because]spoken {
	all := map[because]spoken{}
	for reason := range outcomes {
		why := because{reason: reason}
		all[why] = speak(why)
	}
	for _, scope := range scopes.All().Names() {
		why := because{policy.InsufficientScope, scope}
		all[why] = speak(why)
	}
	return all
}()

func speak(why because) spoken {
	const id = "(id)"
	before, after, _ := strings.Cut(string(encode(refuse(why.reason).problem(id, why.scope))), id)
	return spoken{before, after, challenge(why)}
}

func (why because) spoken() spoken {
	if s, ok := spokenFor[why]; ok {
		return s
	}
	return speak(why)
}

// body is the problem, encoded.
func (no *refusal) body(decision string, why because) []byte {
	if no.detail != "" || no.field != "" || no.upstreamStatus != 0 {
		return encode(no.problem(decision, why.scope))
	}
	s := why.spoken()
	b := make([]byte, 0, len(s.before)+len(decision)+len(s.after))
	return append(append(append(b, s.before...), decision...), s.after...)
}

// headers sets what belongs to a refusal besides its body.
func (no *refusal) headers(q *request, why because) {
	h := q.w.Header()
	if c := why.spoken().challenge; c != nil {
		h["Www-Authenticate"] = c
	}
	if no.reason == policy.MethodNotAllowed {
		h.Set("Allow", q.match.Allow)
	}
	switch {
	case no.reason == policy.RateLimited, no.reason == policy.TooManyInFlight:
	case no.retryAfter == 0:
		h.Del("Retry-After") // waiting for the limits would not help
	default:
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(no.retryAfter.Seconds()))))
	}
}
