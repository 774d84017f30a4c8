package audit

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Phase says what a record tells of.
type Phase string

// The phases.
const (
	Decided Phase = "decided" // a request was decided; nothing has been forwarded yet
	Ended   Phase = "ended"   // the exchange of a decided request is over
	Lost    Phase = "lost"    // the process died before the exchange ended
	Summary Phase = "summary" // failed identifications that were only counted
	Probe   Phase = "probe"   // the log was tried after a failed write
)

// Decision is the verdict on a request.
type Decision string

// The decisions.
const (
	Allow Decision = "allow"
	Deny  Decision = "deny"
)

// Record is what one line of the log says. It is an allow-list: what has no
// field here is not recorded, and a field is added only together with the test
// that lists them all. The zero value of a field is left out of the line, but
// for Complete.
type Record struct {
	UUID  string
	Phase Phase

	Team       string
	Credential string // its id
	ClientIP   string

	// What an operator, or the gateway itself, does to a credential.
	Change     string // its kind
	Operator   string // as claimed
	Generation int    // of the key that was made, ended or used
	Note       string

	Operation string
	Scope     string // the one that the operation needs
	Decision  Decision
	Reason    string

	Status         int
	UpstreamStatus int
	SharedWith     string // the decision whose exchange upstream brought the answer
	WouldDeny      string // why it would have been refused, in shadow mode
	Duration       time.Duration
	RequestSize    int64 // bytes
	Size           int64 // bytes of the answer

	TokenID         string // of the upstream token: its public id, not the token
	RequestedScopes []string
	GrantedScopes   []string
	ExpiresAt       string // as sent upstream
	AllowedIPs      []string
	Clamped         []string // names of the fields that were narrowed

	// Fingerprints are keyed hashes of the texts in a mint's answer, one of
	// which is the token's secret: see Keys.Fingerprint.
	Fingerprints []string

	// Complete says of an ended exchange that it went through whole. It stands
	// on every ended record, false too, and on no other.
	Complete bool

	Suppressed int
	Prefixes   int
}

const (
	// maxText bounds one text, in bytes. The longest scope, name or address
	// is far below it.
	maxText = 256

	// maxRequested bounds a list that a client wrote: more than there are
	// scopes to ask for.
	maxRequested = 128

	// maxGranted bounds a list that the gateway stands for. A body of 64 KiB
	// holds fewer entries, so the rights of a minted token are never cut.
	maxGranted = 1 << 14

	ellipsis = "…"
)

// buffers are what records are encoded into.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

// buffer holds a record's line while it is written.
type buffer struct{ line []byte }

// append writes the record at the end of b, in the order in which one reads it.
// The fields come after others of the same object.
func (r *Record) append(b []byte) []byte {
	b = appendText(b, "uuid", r.UUID)
	b = appendText(b, "phase", string(r.Phase))
	b = appendText(b, "team", r.Team)
	b = appendText(b, "credential", r.Credential)
	b = appendText(b, "client_ip", r.ClientIP)
	b = appendText(b, "change", r.Change)
	b = appendText(b, "operator", r.Operator)
	b = appendNumber(b, "generation", int64(r.Generation))
	b = appendText(b, "note", r.Note)
	b = appendText(b, "operation", r.Operation)
	b = appendText(b, "scope", r.Scope)
	b = appendText(b, "decision", string(r.Decision))
	b = appendText(b, "reason", r.Reason)
	b = appendText(b, "would_deny", r.WouldDeny)
	b = appendNumber(b, "status", int64(r.Status))
	b = appendNumber(b, "upstream_status", int64(r.UpstreamStatus))
	b = appendText(b, "shared_with", r.SharedWith)
	if r.Duration != 0 {
		b = strconv.AppendFloat(appendKey(b, "duration"), float64(r.Duration)/float64(time.Second), 'f', -1, 64)
	}
	b = appendNumber(b, "request_size", r.RequestSize)
	b = appendNumber(b, "size", r.Size)
	b = appendText(b, "token_id", r.TokenID)
	b = appendList(b, "requested_scopes", r.RequestedScopes, maxRequested)
	b = appendList(b, "granted_scopes", r.GrantedScopes, maxGranted)
	b = appendText(b, "expires_at", r.ExpiresAt)
	b = appendList(b, "allowed_ips", r.AllowedIPs, maxGranted)
	b = appendList(b, "clamped", r.Clamped, maxGranted)
	b = appendList(b, "fingerprints", r.Fingerprints, maxRequested)
	if r.Phase == Ended {
		b = strconv.AppendBool(appendKey(b, "complete"), r.Complete)
	}
	b = appendNumber(b, "suppressed", int64(r.Suppressed))
	return appendNumber(b, "prefixes", int64(r.Prefixes))
}

func appendKey(b []byte, key string) []byte {
	b = append(b, `,"`...)
	b = append(b, key...)
	return append(b, `":`...)
}

func appendText(b []byte, key, text string) []byte {
	if text == "" {
		return b
	}
	return appendQuoted(appendKey(b, key), text)
}

func appendNumber(b []byte, key string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(appendKey(b, key), n, 10)
}

// appendList writes a bounded list; where some items are left off, the last one
// says how many.
func appendList(b []byte, key string, items []string, limit int) []byte {
	if len(items) == 0 {
		return b
	}
	b = append(appendKey(b, key), '[')
	for i, item := range items {
		if i > 0 {
			b = append(b, ',')
		}
		if i == limit {
			b = appendQuoted(b, fmt.Sprintf("%s %d more", ellipsis, len(items)-i))
			break
		}
		b = appendQuoted(b, item)
	}
	return append(b, ']')
}

// appendQuoted writes a text as a JSON string. Once it is clean, JSON demands
// two escapes: all others are for what does not show.
func appendQuoted(b []byte, text string) []byte {
	b = append(b, '"')
	for text = clean(text); ; {
		i := strings.IndexAny(text, `"\`)
		if i < 0 {
			break
		}
		b = append(b, text[:i]...)
		b = append(b, '\\', text[i])
		text = text[i+1:]
	}
	b = append(b, text...)
	return append(b, '"')
}

// clean bounds a text and replaces what does not show in it. JSON's escaping
// alone would leave in place what breaks a line for some readers (U+2028,
// U+0085), moves a terminal's cursor (U+009B) or turns the text round (U+202E),
// and the log is read by people whom an attacker would like to mislead.
func clean(text string) string {
	if len(text) <= maxText && isPlain(text) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if !unicode.IsPrint(r) {
			r = utf8.RuneError
		}
		b.WriteRune(r)
		if b.Len() > maxText {
			break
		}
	}
	text = b.String()
	if len(text) <= maxText {
		return text
	}
	cut := maxText - len(ellipsis)
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + ellipsis
}

func isPlain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}
