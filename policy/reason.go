package policy

import "fmt"

// Reason says why a request was allowed or refused. The list is closed: it
// is what callers, audit records and metric labels are made of, so a reason
// is never built from what a client sent.
type Reason uint8

// The reasons, in the order in which a request meets them. What each means
// to a caller (status, text) is known to the errors.go of the module alone.
const (
	// Undecided is the zero value. It allows nothing: a decision that somebody
	// forgot to make is a refusal.
	Undecided Reason = iota

	// Allowed is the only reason under which a request is forwarded.
	Allowed

	// Who is it? Refused before anything of the request is looked at.
	NoCredential
	MultipleCredentials
	MisplacedCredential
	MalformedCredential
	UnknownCredential // unknown id or wrong secret: deliberately one reason
	CredentialSuspended
	CredentialRevoked
	CredentialExpired
	CredentialNotYetValid
	CredentialRetired // a key that another one of its credential has replaced
	TeamGone          // the credential's team is no longer configured
	ClientAddress

	// What is asked for?
	PathNotCanonical
	UnknownPath
	InvalidID
	OperationOff
	MethodNotAllowed
	InsufficientScope
	RateLimited
	TooManyInFlight

	// What does the body say?
	UnsupportedMediaType
	ContentEncoding
	BodyTooLarge
	UnexpectedBody
	MalformedBody
	MemberPassword
	MintNotGranted
	MintInvalid
	MintScopes
	MintExpiry
	MintAddresses
	MintQuota
	MintDailyQuota
	TokenNotFound
	IdempotencyMismatch
	IdempotencyConflict

	// What the gateway itself, or the upstream behind it, could not do.
	AuditUnavailable
	StoreUnavailable
	ClockSkew
	NoLedger
	UpstreamBusy
	UpstreamBreakerOpen
	UpstreamUnreachable
	UpstreamTimeout
	UpstreamUnauthorized
	UpstreamForbidden
	UpstreamRedirect
	UpstreamStatus
	UpstreamError
	UpstreamShape
	UpstreamWidened
	UpstreamBroken
	UpstreamLeak
	ClientGone

	reasonCount
)

var reasonNames = [reasonCount]string{
	Undecided:             "undecided",
	Allowed:               "allowed",
	NoCredential:          "no_credential",
	MultipleCredentials:   "multiple_credentials",
	MisplacedCredential:   "misplaced_credential",
	MalformedCredential:   "malformed_credential",
	UnknownCredential:     "unknown_credential",
	CredentialSuspended:   "credential_suspended",
	CredentialRevoked:     "credential_revoked",
	CredentialExpired:     "credential_expired",
	CredentialNotYetValid: "credential_not_yet_valid",
	CredentialRetired:     "credential_retired",
	TeamGone:              "team_gone",
	ClientAddress:         "client_address",
	PathNotCanonical:      "path_not_canonical",
	UnknownPath:           "unknown_path",
	InvalidID:             "invalid_id",
	OperationOff:          "operation_off",
	MethodNotAllowed:      "method_not_allowed",
	InsufficientScope:     "insufficient_scope",
	RateLimited:           "rate_limited",
	TooManyInFlight:       "too_many_in_flight",
	UnsupportedMediaType:  "unsupported_media_type",
	ContentEncoding:       "content_encoding",
	BodyTooLarge:          "body_too_large",
	UnexpectedBody:        "unexpected_body",
	MalformedBody:         "malformed_body",
	MemberPassword:        "member_password",
	MintNotGranted:        "mint_not_granted",
	MintInvalid:           "mint_invalid",
	MintScopes:            "mint_scopes",
	MintExpiry:            "mint_expiry",
	MintAddresses:         "mint_addresses",
	MintQuota:             "mint_quota",
	MintDailyQuota:        "mint_daily_quota",
	TokenNotFound:         "token_not_found",
	IdempotencyMismatch:   "idempotency_mismatch",
	IdempotencyConflict:   "idempotency_conflict",
	AuditUnavailable:      "audit_unavailable",
	StoreUnavailable:      "store_unavailable",
	ClockSkew:             "clock_skew",
	NoLedger:              "no_ledger",
	UpstreamBusy:          "upstream_busy",
	UpstreamBreakerOpen:   "upstream_breaker_open",
	UpstreamUnreachable:   "upstream_unreachable",
	UpstreamTimeout:       "upstream_timeout",
	UpstreamUnauthorized:  "upstream_unauthorized",
	UpstreamForbidden:     "upstream_forbidden",
	UpstreamRedirect:      "upstream_redirect",
	UpstreamStatus:        "upstream_status",
	UpstreamError:         "upstream_error",
	UpstreamShape:         "upstream_shape",
	UpstreamWidened:       "upstream_widened",
	UpstreamBroken:        "upstream_broken",
	UpstreamLeak:          "upstream_leak",
	ClientGone:            "client_gone",
}

// String returns the word that stands in records, labels and answers.
func (r Reason) String() string {
	if r >= reasonCount {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return reasonNames[r]
}

// Denies reports whether the gateway refused the request, as against one that
// it let through, however that ended behind it.
func (r Reason) Denies() bool {
	switch r {
	case Allowed, UpstreamUnreachable, UpstreamTimeout, UpstreamUnauthorized, UpstreamForbidden,
		UpstreamRedirect, UpstreamStatus, UpstreamError, UpstreamShape, UpstreamWidened, UpstreamBroken, UpstreamLeak, ClientGone:
		return false
	default:
		return true
	}
}

// MarshalText makes JSON print the word and not the number.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Reasons returns the closed list, in the order of their numbers.
func Reasons() []Reason {
	all := make([]Reason, reasonCount)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}
