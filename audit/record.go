package audit

import (
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap/zapcore"
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

// line is a record on its way to the encoder. It exists so that neither a
// record nor the field that carries it is allocated for every request.
type line struct {
	record Record
	list   list
	field  [1]zapcore.Field
}

var lines = sync.Pool{New: func() any {
	ln := &line{}
	ln.field[0] = zapcore.Field{Type: zapcore.InlineMarshalerType, Interface: ln}
	return ln
}}

// release gives the line back, holding on to no text of a request.
func (ln *line) release() {
	ln.record, ln.list = Record{}, list{}
	lines.Put(ln)
}

// MarshalLogObject writes the fields, in the order in which one reads them.
func (ln *line) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	r := &ln.record
	addText(enc, "uuid", r.UUID)
	addText(enc, "phase", string(r.Phase))
	addText(enc, "team", r.Team)
	addText(enc, "credential", r.Credential)
	addText(enc, "client_ip", r.ClientIP)
	addText(enc, "change", r.Change)
	addText(enc, "operator", r.Operator)
	addNumber(enc, "generation", int64(r.Generation))
	addText(enc, "note", r.Note)
	addText(enc, "operation", r.Operation)
	addText(enc, "scope", r.Scope)
	addText(enc, "decision", string(r.Decision))
	addText(enc, "reason", r.Reason)
	addText(enc, "would_deny", r.WouldDeny)
	addNumber(enc, "status", int64(r.Status))
	addNumber(enc, "upstream_status", int64(r.UpstreamStatus))
	if r.Duration != 0 {
		enc.AddDuration("duration", r.Duration)
	}
	addNumber(enc, "request_size", r.RequestSize)
	addNumber(enc, "size", r.Size)
	addText(enc, "token_id", r.TokenID)
	ln.addList(enc, "requested_scopes", r.RequestedScopes, maxRequested)
	ln.addList(enc, "granted_scopes", r.GrantedScopes, maxGranted)
	addText(enc, "expires_at", r.ExpiresAt)
	ln.addList(enc, "allowed_ips", r.AllowedIPs, maxGranted)
	ln.addList(enc, "clamped", r.Clamped, maxGranted)
	ln.addList(enc, "fingerprints", r.Fingerprints, maxRequested)
	if r.Phase == Ended {
		enc.AddBool("complete", r.Complete)
	}
	addNumber(enc, "suppressed", int64(r.Suppressed))
	addNumber(enc, "prefixes", int64(r.Prefixes))
	return nil
}

func addText(enc zapcore.ObjectEncoder, key, text string) {
	if text != "" {
		enc.AddString(key, clean(text))
	}
}

func addNumber(enc zapcore.ObjectEncoder, key string, n int64) {
	if n != 0 {
		enc.AddInt64(key, n)
	}
}

func (ln *line) addList(enc zapcore.ObjectEncoder, key string, items []string, limit int) {
	if len(items) == 0 {
		return
	}
	ln.list = list{items, limit}
	_ = enc.AddArray(key, &ln.list) // passes on the error of MarshalLogArray, which has none
}

// list is a bounded list of texts.
type list struct {
	items []string
	limit int
}

// MarshalLogArray writes the items; where some are left off, the last one says
// how many.
func (l *list) MarshalLogArray(enc zapcore.ArrayEncoder) error {
	for i, item := range l.items {
		if i == l.limit {
			enc.AppendString(fmt.Sprintf("%s %d more", ellipsis, len(l.items)-i))
			break
		}
		enc.AppendString(clean(item))
	}
	return nil
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
