package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/audit"
)

// step is what a faulty writer does with one write: it takes n bytes (all if
// negative) and returns err.
type step struct {
	n   int
	err error
}

// sound checks a log as an auditor does.
func sound(t *testing.T, log []byte) audit.Report {
	t.Helper()
	r := verified(log, audit.VerifyOptions{})
	if !r.Sound() {
		t.Errorf("the log does not verify: %+v", r.Findings)
	}
	return r
}

func verified(log []byte, o audit.VerifyOptions) audit.Report {
	v := audit.NewVerifier(o)
	n := 0
	for line := range bytes.Lines(log) {
		n++
		v.Line("audit.jsonl", n, bytes.TrimSuffix(line, []byte("\n")))
	}
	return v.Finish()
}

// faulty is a writer that follows a script, and then works.
type faulty struct {
	file
	script []step
}

func (f *faulty) Write(p []byte) (int, error) {
	if len(f.script) == 0 {
		return f.file.Write(p)
	}
	s := f.script[0]
	f.script = f.script[1:]
	if s.n < 0 {
		s.n = len(p)
	}
	_, _ = f.file.Write(p[:min(s.n, len(p))])
	return s.n, s.err
}

var errDisk = errors.New("input/output error")

// A gateway must not forward what it could not record; and the half line that a
// failure leaves must not swallow the next record.
func TestWriteRejectsWhatTheDiskDidNotTake(t *testing.T) {
	tests := []struct {
		name   string
		script []step
		fails  int      // of three writes, the first ones
		want   []string // lines: "record", or what is left of one
	}{
		{"works", nil, 0, []string{"record", "record", "record"}},
		{"nothing taken", []step{{0, errDisk}}, 1, []string{"record", "record"}},
		{"part taken", []step{{5, syscall.ENOSPC}}, 1, []string{`{"seq`, "torn", "record", "record"}},
		{"part taken, no error told", []step{{5, nil}}, 1, []string{`{"seq`, "torn", "record", "record"}},
		{"nothing taken, no error told", []step{{0, nil}}, 1, []string{"record", "record"}},
		{"all taken but an error told", []step{{-1, errDisk}}, 1, []string{"record", "record", "record"}},
		{"torn, then the disk stays full", []step{{5, syscall.ENOSPC}, {0, syscall.ENOSPC}}, 2, []string{`{"seq`, "torn", "record"}},
		{"torn, closed, torn again", []step{{5, errDisk}, {8, errDisk}}, 2, []string{`{"seq`, `{"seq":`, "torn", "torn", "record"}},
		{"torn, closed, then nothing taken", []step{{5, errDisk}, {1, errDisk}}, 2, []string{`{"seq`, "torn", "record"}},
		{"torn, told of, torn again", []step{{5, errDisk}, {250, errDisk}}, 2, []string{`{"seq`, "torn", `{"seq":`, "torn", "record"}},
		{"more told than given", []step{{1 << 20, nil}}, 1, []string{"record", "record", "record"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &faulty{script: tt.script}
			events := &counts{}
			l := open(t, w, events)
			for i := range 3 {
				err := l.Write(decided())
				if failed := err != nil; failed != (i < tt.fails) {
					t.Errorf("write %d: %v", i, err)
				}
			}
			var got []string
			for line := range strings.Lines(string(w.bytes())) {
				line = strings.TrimSuffix(line, "\n")
				switch {
				case strings.Contains(line, `"kind":"torn"`):
					line = "torn"
				case json.Valid([]byte(line)):
					line = "record"
				}
				got = append(got, line[:min(7, len(line))])
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			sound(t, w.bytes())
			if events.failed != tt.fails || events.written != 3-tt.fails {
				t.Errorf("events: %d written, %d failed", events.written, events.failed)
			}
		})
	}
}

func TestWriteTellsWhyItFailed(t *testing.T) {
	l := open(t, &faulty{script: []step{{0, syscall.ENOSPC}, {3, nil}}}, nil)
	if err := l.Write(decided()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("err = %v, want ENOSPC", err)
	}
	if err := l.Write(decided()); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("err = %v, want a short write", err)
	}
}

// disk takes as many bytes as it has room for, as a real one does.
type disk struct {
	mu   sync.Mutex
	data []byte
	room int
}

func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(p), d.room)
	d.data = append(d.data, p[:n]...)
	d.room -= n
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (d *disk) free(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = n
}

// Under load the disk runs full again and again, in the midst of lines. Every
// record whose write was said to have worked can be read afterwards, and no
// other.
func TestWriteKeepsItsWordOnAFullDisk(t *testing.T) {
	d := &disk{}
	l := open(t, d, nil)
	var mu sync.Mutex
	kept := map[string]bool{}
	for round := range 50 {
		d.free(200 + 37*round)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range 4 {
					r := decided()
					r.UUID = strings.Repeat("u", i+1) + string(rune('A'+round))
					r.Team = string(rune('a' + i))
					if l.Write(r) == nil {
						mu.Lock()
						kept[r.UUID] = true
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
	}
	d.free(1 << 20)
	if err := l.Write(decided()); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	found := map[string]bool{}
	for line := range bytes.Lines(d.data) {
		var r struct{ UUID string }
		if json.Unmarshal(line, &r) == nil && r.UUID != "" {
			found[r.UUID] = true
		}
	}
	delete(found, decided().UUID)
	sound(t, d.data)
	if diff := cmp.Diff(kept, found); diff != "" {
		t.Errorf("records said to be kept (-) and found (+):\n%s", diff)
	}
}

// Two configurations overlap while one replaces the other, and two gateways may
// write to one file: lines must not run into each other, also after a tear that
// the other one made.
func TestWriteRejectsInterleavedLines(t *testing.T) {
	w := &faulty{script: []step{{-1, nil}, {9, syscall.ENOSPC}}}
	sink := audit.NewSink(w)
	var logs []*audit.Log
	for _, gateway := range []string{"a", "b"} {
		l, err := audit.New(audit.Options{Gateway: gateway, Durable: sink})
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, l)
	}
	if err := logs[0].Write(decided()); err != nil {
		t.Fatal(err)
	}
	if err := logs[0].Write(decided()); err == nil {
		t.Fatal("a torn write was called good")
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				if err := logs[i%2].Write(decided()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, l := range logs {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	lines := bytes.SplitAfter(w.bytes(), []byte("\n"))
	whole := append(bytes.Clone(lines[0]), bytes.Join(lines[2:], nil)...)
	if n := len(decode(t, whole)); n != 801 {
		t.Errorf("%d records, want 801", n)
	}
	sound(t, w.bytes())
	for _, p := range w.writes[3:] {
		if p[0] != '{' || p[len(p)-1] != '\n' {
			t.Errorf("a write of %d bytes does not hold whole lines", len(p))
		}
	}
}

func TestHealthyTriesAgain(t *testing.T) {
	w := &faulty{script: []step{{0, errDisk}, {4, errDisk}, {0, errDisk}}}
	l := open(t, w, nil)
	if err := l.Healthy(); err != nil {
		t.Errorf("before the first write: %v", err)
	}
	if err := l.Write(decided()); err == nil {
		t.Error("the write worked")
	}
	for range 2 {
		if err := l.Healthy(); !errors.Is(err, errDisk) {
			t.Errorf("with a broken disk: %v", err)
		}
	}
	for range 3 {
		if err := l.Healthy(); err != nil {
			t.Errorf("with a good disk: %v", err)
		}
	}
	torn, rest, _ := bytes.Cut(w.bytes(), []byte("\n"))
	probes := decode(t, rest)
	if string(torn) != `{"se` || len(probes) != 1 || probes[0]["phase"] != "probe" {
		t.Errorf("log = %q, want a torn line and one probe", w.bytes())
	}
}

// A new configuration must not call a log good that the old one knows is not.
func TestHealthySeesWhatAnotherLogOfTheFileSaw(t *testing.T) {
	sink := audit.NewSink(&faulty{script: []step{{0, errDisk}, {0, errDisk}}})
	for range 2 {
		l, err := audit.New(audit.Options{Durable: sink})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.Write(decided()), l.Close()); err == nil {
			t.Error("the write worked")
		}
	}
	l, err := audit.New(audit.Options{Durable: sink})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Healthy(), l.Close()); err != nil {
		t.Error(err)
	}
}

func TestNewRejectsNoDurableLog(t *testing.T) {
	if _, err := audit.New(audit.Options{Gateway: "default", Mirrors: []io.Writer{io.Discard}}); err == nil {
		t.Error("a log without a durable log was made")
	}
}

// A request that outlives its configuration must not be told that its record
// was written.
func TestCloseRejectsLaterWrites(t *testing.T) {
	var f file
	l := open(t, &f, nil)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"Write": l.Write(decided()), "Unidentified": l.Unidentified(decided(), v4(1)), "Healthy": l.Healthy(),
	} {
		if !errors.Is(err, audit.ErrClosed) {
			t.Errorf("%s = %v, want ErrClosed", name, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if len(f.bytes()) > 0 {
		t.Errorf("written after Close: %q", f.bytes())
	}
}
