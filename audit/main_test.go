package audit_test

import (
	"bytes"
	"encoding/json"
	"io"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/scopegate/scopegate/audit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// file stands in for the log file. It keeps the bytes, and each write apart.
type file struct {
	mu     sync.Mutex
	writes [][]byte
}

func (f *file) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes = append(f.writes, bytes.Clone(p))
	return len(p), nil
}

func (f *file) bytes() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return bytes.Join(f.writes, nil)
}

func (f *file) records(t *testing.T) []map[string]any {
	t.Helper()
	return decode(t, f.bytes())
}

// decode reads a log of which every line must be a record, or the chain's own.
// It returns the records, without their places.
func decode(t *testing.T, log []byte) []map[string]any {
	t.Helper()
	var records []map[string]any
	for line := range bytes.Lines(log) {
		var r map[string]any
		if err := json.Unmarshal(line, &r); err != nil || line[len(line)-1] != '\n' {
			t.Fatalf("line %q is no record: %v", line, err)
		}
		if r["kind"] != nil {
			continue
		}
		delete(r, "seq")
		delete(r, "prev")
		records = append(records, r)
	}
	return records
}

// byPhase returns the records of one phase.
func byPhase(records []map[string]any, phase audit.Phase) []map[string]any {
	var some []map[string]any
	for _, r := range records {
		if r["phase"] == string(phase) {
			some = append(some, r)
		}
	}
	return some
}

// sum adds a number up over records.
func sum(records []map[string]any, key string) int {
	total := 0.0
	for _, r := range records {
		n, _ := r[key].(float64)
		total += n
	}
	return int(total)
}

// counts listens to a log.
type counts struct {
	mu                                       sync.Mutex
	written, failed, suppressed, dropped     int
	reserved, reopened, anchored, unanchored int
	cut                                      int
}

func (c *counts) AuditWrite(_ time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed++
		return
	}
	c.written++
}

func (c *counts) AuditSuppressed(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suppressed += n
}

func (c *counts) AuditSync(time.Duration) {}

func (c *counts) AuditReserved() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reserved++
}

func (c *counts) AuditReopened() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reopened++
}

func (c *counts) AuditAnchored(_ time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.unanchored++
		return
	}
	c.anchored++
}

func (c *counts) MirrorCut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut++
}

func (c *counts) MirrorDropped() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped++
}

func (c *counts) drops() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

// open makes a log that is closed when the test ends.
func open(t testing.TB, durable io.Writer, events audit.Events, mirrors ...io.Writer) *audit.Log {
	t.Helper()
	l, err := audit.New(audit.Options{
		Gateway: "default", Durable: audit.NewSink(durable), Mirrors: mirrors, Events: events,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// decided is a record as most requests make one.
func decided() *audit.Record {
	return &audit.Record{
		UUID: "2f1c8f0e-6d0a-4b3a-9d53-1f6f3f4d2a10", Phase: audit.Decided,
		Team: "billing", Credential: "4fQ9aaaaaaaa", ClientIP: "192.0.2.7",
		Operation: "members.list", Scope: "members.read-all",
		Decision: audit.Allow, Reason: "allowed",
	}
}
