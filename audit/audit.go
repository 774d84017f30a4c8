// Package audit keeps the record of what a gateway decided and what became of
// it: one JSON line when a request is decided, one when its exchange ended.
//
// It decides nothing about a request. It says whether a record was written,
// and whoever asked must not go on if it was not: no record, no request.
//
// It never sees a secret. A [Record] is a closed list of plain values; it takes
// no request, no header, no error and no value of another package, so there is
// nothing to redact and nothing that a later change could forget to redact.
//
// # A record
//
// Keys that do not apply are left out. Those that Caddy has too bear its names.
//
//	seq, prev         the line's number, and the SHA-256 of the line before
//	ts                when, RFC 3339 in UTC, to the nanosecond
//	msg               always "audit"
//	gateway           the gateway's name
//	uuid              the request; equal in its two records and in Caddy's access log
//	phase             decided, ended, lost, summary or probe
//	team, credential  who asked; absent where nobody was identified
//	client_ip         from where
//	change, operator, generation, note
//	                  what was done to a credential, by whom as claimed, to which of
//	                  its keys and why; generation also on the use of a retired key
//	operation, scope  what was asked for, and the scope that it needs
//	decision, reason  allow or deny, and the one word that says why
//	status            what the caller got
//	upstream_status   what GoodAccess answered
//	shared_with       the uuid of the request that brought the answer, where it was
//	                  another's of the same team
//	duration          seconds
//	request_size      bytes of the request's body
//	size              bytes of the answer's body
//	token_id          the upstream token that was made, read, changed or deleted
//	requested_scopes  what the caller of a mint asked for
//	granted_scopes, expires_at, allowed_ips
//	                  what the minted token got
//	would_deny        in shadow mode: the reason for which it would have been refused
//	clamped           which of these the gateway narrowed
//	fingerprints      keyed hashes of what stands in the answer of a mint
//	complete          on ended: whether the exchange went through whole
//	suppressed        on summary: failed identifications that were only counted
//	prefixes          on summary: from how many client prefixes, at least
//
// Text that a client could have chosen cannot forge or hide anything: it is
// escaped and bounded, and what is not visible in it (control characters, line
// separators, bidirectional overrides) shows as U+FFFD.
//
// # The chain
//
// Each line, in the order in which they stand, has a number and the hash of the
// line before it. So a line cannot be changed, taken out or put in without all
// that follow it, and those are held by signatures: a checkpoint, every so many
// lines and seconds, says how far the log had come, in the form of a signed
// note. Checkpoints stand in the log, and go to anchors outside of it. Lines of
// the chain's own have a kind, which no record has. [Verifier] checks all that.
//
// # Where records go
//
// The durable log is a [Sink]. It is written first, in the caller's own
// goroutine and without a buffer. A line torn by a failed write is closed before
// the next one, and said to be none, so that a full disk spoils no later record.
// The record of a change is on the disk before its caller goes on; those who
// wait for that wait together. What takes rights away is recorded in a reserve
// where the log cannot be written.
//
// Mirrors are copies of what the durable log holds: written behind, each from a
// bounded queue of its own, never waited for. What a mirror cannot take is
// dropped and counted.
//
// # Floods
//
// Anybody can fail to identify himself, as often as he likes. Such attempts go
// through [Log.Unidentified]: a few a second are recorded for each client
// prefix and over all of them, the rest is counted into one summary a second.
// This bounds what a stranger can write at about 3 KB a second, so that he
// cannot fill the disk and with it stop the gateway.
package audit

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"
	"time"
)

// ErrClosed is returned by a write to a closed log.
var ErrClosed = errors.New("the audit log is closed")

// message is the same on every line; all that differs is in fields, so that no
// reader has to take text apart.
const message = "audit"

// Events is told what the log does, for metrics. Its methods are called in the
// way of requests, from many goroutines: they must be quick.
type Events interface {
	// AuditWrite tells of each record how long its write took, the wait for
	// other records included, and how it ended.
	AuditWrite(took time.Duration, err error)

	// AuditSuppressed tells of n records that were only counted.
	AuditSuppressed(n int)

	// AuditSync tells how long a record of a change waited to be on the disk.
	AuditSync(took time.Duration)

	// AuditReserved tells of a record that is in the reserve, since the log
	// could not be written.
	AuditReserved()

	// AuditReopened tells that the file was deleted or replaced under way.
	AuditReopened()

	// AuditAnchored tells of a checkpoint that was sent to an anchor, and how
	// that ended.
	AuditAnchored(at time.Time, err error)

	// MirrorDropped tells of a record that one mirror does not have.
	MirrorDropped()

	// MirrorCut tells of a mirror that took too long and is cut off until it
	// has answered.
	MirrorCut()
}

// Options says what a Log is made of.
type Options struct {
	// Gateway is the name that every record carries.
	Gateway string

	// Durable is the log whose failed write refuses a request. Required.
	// Gateways, and the configurations before and after a reload, that write
	// to one file share one Sink.
	Durable *Sink

	// Mirrors get copies. They stay the caller's to close, after the Log.
	Mirrors []io.Writer

	// Events may be nil.
	Events Events
}

// Log is the audit log of one gateway. Its methods may be called from many
// goroutines.
type Log struct {
	same    []byte // what stands between the time of a record and its fields
	durable *Sink
	mirrors []*mirror
	flood   *flood
	events  Events
	closed  atomic.Bool
}

// New makes a log. Close ends it.
func New(o Options) (*Log, error) {
	if o.Durable == nil {
		return nil, errors.New("making the audit log: no durable log given")
	}
	l := &Log{durable: o.Durable, events: o.Events}
	if l.events == nil {
		l.events = nobody{}
	}
	l.flood = newFlood(func(suppressed, prefixes int) error {
		return l.write(&Record{Phase: Summary, Suppressed: suppressed, Prefixes: prefixes}, light)
	})
	for _, w := range o.Mirrors {
		l.mirrors = append(l.mirrors, newMirror(w, l.events))
	}
	l.same = appendText([]byte(`","msg":"`+message+`"`), "gateway", o.Gateway)
	l.durable.attach(l)
	return l, nil
}

// Write puts one record into the durable log and hands copies to the mirrors.
// If it returns an error, the log does not hold the record, and the caller must
// not do what it says. The record stays the caller's.
func (l *Log) Write(r *Record) error { return l.admit(r, light) }

// WriteChange is Write for what changes something: it returns once the record
// is on the disk.
func (l *Log) WriteChange(r *Record) error { return l.admit(r, change) }

// WriteRevocation is WriteChange for what takes rights away: where the log
// cannot be written, the record is put into the reserve. A full disk must not
// keep a leaked token alive.
func (l *Log) WriteRevocation(r *Record) error { return l.admit(r, revocation) }

func (l *Log) admit(r *Record, w weight) error {
	if l.closed.Load() {
		return ErrClosed
	}
	return l.write(r, w)
}

// Unidentified writes the record of a request by nobody known, or counts it
// for the next summary once its client's prefix, or all prefixes together, have
// used this second's budget up. A record that was only counted is no error.
func (l *Log) Unidentified(r *Record, client netip.Addr) error {
	if !l.flood.admit(client) {
		l.events.AuditSuppressed(1)
		return nil
	}
	return l.Write(r)
}

// Healthy reports whether the log can be written: nil if the last write to it
// went well. If not, it tries again with a record of phase probe, so that a
// gateway which no request reaches, since it is not ready, finds back by itself.
func (l *Log) Healthy() error {
	if l.closed.Load() {
		return ErrClosed
	}
	if l.durable.failure() == nil {
		return nil
	}
	return l.write(&Record{Phase: Probe}, light)
}

// Close writes the last summary and waits, for a bounded time, until the
// mirrors have what they were sent. Records are refused from now on. The
// durable log and the mirrors' writers stay open: they are not the Log's.
func (l *Log) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	err := l.flood.close()
	l.durable.detach(l)
	return errors.Join(err, closeMirrors(l.mirrors))
}

func (l *Log) write(r *Record, w weight) error {
	b := buffers.Get().(*buffer) //nolint:forcetypeassert // the pool holds nothing else
	start := time.Now()
	b.line = start.UTC().AppendFormat(append(b.line[:0], `{"ts":"`...), time.RFC3339Nano)
	b.line = r.append(append(b.line, l.same...))
	b.line = append(b.line, '}', '\n')
	err := l.put(b.line, w)
	l.events.AuditWrite(time.Since(start), err)
	buffers.Put(b)
	if err != nil {
		return fmt.Errorf("writing the audit record: %w", err)
	}
	return nil
}

func (l *Log) put(line []byte, w weight) error {
	reserved, err := l.durable.append(line, entry{weight: w, from: l})
	if err != nil || reserved || !l.durable.mustSync(w) {
		return err
	}
	start := time.Now()
	err = l.durable.file.wait()
	l.events.AuditSync(time.Since(start))
	return err
}

// nobody listens where no Events were given.
type nobody struct{}

func (nobody) AuditWrite(time.Duration, error) {}
func (nobody) AuditSuppressed(int)             {}
func (nobody) AuditSync(time.Duration)         {}
func (nobody) AuditReserved()                  {}
func (nobody) AuditReopened()                  {}
func (nobody) AuditAnchored(time.Time, error)  {}
func (nobody) MirrorCut()                      {}
func (nobody) MirrorDropped()                  {}
