// Package query answers questions about audit logs: it takes their lines apart,
// finds the records that are asked for, and counts.
//
// It reads what others may have written. A line that is no record is told with
// its exact place and passed over; one that is a record says no more than what
// the same bytes say to any other reader of JSON.
package query

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"github.com/scopegate/scopegate/audit/logfile"
)

// Field is a member of a record that questions are asked about.
type Field uint8

// The fields.
const (
	TS Field = iota
	Msg
	Kind // of a line that the log wrote about itself; a record has none
	Gateway
	UUID
	Phase
	Team
	Credential
	ClientIP
	Change
	Operator
	Note
	Operation
	Scope
	Decision
	Reason
	WouldDeny
	SharedWith
	TokenID
	ExpiresAt
	texts // those before are texts

	Status
	UpstreamStatus
	Generation
	Suppressed
	numbers // those between are numbers

	RequestedScopes
	GrantedScopes
	AllowedIPs
	Clamped
	fields // those between are lists of texts
)

// field finds a field by its name.
func field(name []byte) (Field, bool) {
	switch string(name) { // the compiler copies nothing for this
	case "ts":
		return TS, true
	case "msg":
		return Msg, true
	case "kind":
		return Kind, true
	case "gateway":
		return Gateway, true
	case "uuid":
		return UUID, true
	case "phase":
		return Phase, true
	case "team":
		return Team, true
	case "credential":
		return Credential, true
	case "client_ip":
		return ClientIP, true
	case "change":
		return Change, true
	case "operator":
		return Operator, true
	case "note":
		return Note, true
	case "operation":
		return Operation, true
	case "scope":
		return Scope, true
	case "decision":
		return Decision, true
	case "reason":
		return Reason, true
	case "would_deny":
		return WouldDeny, true
	case "shared_with":
		return SharedWith, true
	case "token_id":
		return TokenID, true
	case "expires_at":
		return ExpiresAt, true
	case "status":
		return Status, true
	case "upstream_status":
		return UpstreamStatus, true
	case "generation":
		return Generation, true
	case "suppressed":
		return Suppressed, true
	case "requested_scopes":
		return RequestedScopes, true
	case "granted_scopes":
		return GrantedScopes, true
	case "allowed_ips":
		return AllowedIPs, true
	case "clamped":
		return Clamped, true
	}
	return 0, false
}

// Why a line is none of a log's.
var (
	ErrNotJSON   = errors.New("it is no JSON object: torn, damaged or of another kind")
	ErrTwice     = errors.New("a member stands twice: readers would not agree on what it says")
	ErrType      = errors.New("a member is not of its type")
	ErrNotRecord = errors.New("it is JSON, but no record of an audit log")
)

// Entry is a line that was taken apart. Its texts are in the line's own bytes.
type Entry struct {
	logfile.Line
	raw [fields][]byte // texts without their quotes; nil is absent
}

// Parse takes a line apart. Record is false for the lines that a log writes
// about itself, which questions pass over.
func (e *Entry) Parse(line logfile.Line) (record bool, err error) {
	e.Line = line
	e.raw = [fields][]byte{}
	p := parser{text: line.Text}
	if err := p.object(&e.raw); err != nil {
		return false, err
	}
	switch {
	case string(e.raw[Msg]) != "audit":
		return false, ErrNotRecord
	case e.raw[Kind] != nil:
		return false, nil
	case e.raw[Phase] == nil || e.raw[TS] == nil:
		return false, ErrNotRecord
	}
	return true, nil
}

// Has reports whether the record has the field.
func (e *Entry) Has(f Field) bool { return e.raw[f] != nil }

// ByCaller reports whether the record tells of a caller's request, and of
// nothing that an operator or the gateway itself did.
func (e *Entry) ByCaller() bool { return !e.Has(Change) && !e.Has(Operator) }

// Text returns a text, "" where it is absent.
func (e *Entry) Text(f Field) string { return unescape(e.raw[f]) }

// Is reports whether a field is this text, an absent one "".
func (e *Entry) Is(f Field, text string) bool {
	raw := e.raw[f]
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw) == text
	}
	return unescape(raw) == text
}

// Number returns a number, 0 where it is absent, too large or a fraction.
func (e *Entry) Number(f Field) int64 {
	n, _ := strconv.ParseInt(string(e.raw[f]), 10, 64)
	return n
}

// List returns a list of texts.
func (e *Entry) List(f Field) []string {
	var list []string
	if e.raw[f] == nil || json.Unmarshal(e.raw[f], &list) != nil {
		return nil
	}
	return list
}

// Time returns when the line was written, the zero Time where it does not say.
func (e *Entry) Time() time.Time {
	t, err := time.Parse(time.RFC3339, e.Text(TS))
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// Client returns the address that was asked from, the zero Addr where the
// record has none that can be read.
func (e *Entry) Client() netip.Addr {
	text := e.Text(ClientIP)
	a, err := netip.ParseAddr(text)
	if err != nil {
		both, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}
		}
		a = both.Addr()
	}
	return a.Unmap().WithZone("")
}

func unescape(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	var text string
	quoted := append(append([]byte{'"'}, raw...), '"')
	_ = json.Unmarshal(quoted, &text) // the parser has seen that it is one
	return text
}
