package logfile_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/scopegate/scopegate/audit/logfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func put(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	b := []byte(text)
	if strings.HasSuffix(name, ".gz") {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write(b)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		b = packed.Bytes()
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// at is a record as far as order depends on it.
func at(second int) string {
	return fmt.Sprintf(`{"ts":"2026-11-24T13:21:%02dZ","msg":"audit"}`+"\n", second)
}

// scan returns the lines of sources, in order, and what could not be read.
func scan(t *testing.T, sources []logfile.Source) (text string, faults []string) {
	t.Helper()
	var b strings.Builder
	err := logfile.Scan(t.Context(), sources, func(block logfile.Block) string {
		var lines strings.Builder
		for line := range block.Lines() {
			fmt.Fprintf(&lines, "%s:%d %s\n", filepath.Base(line.File), line.Number, line.Text)
		}
		return lines.String()
	}, func(s string) error {
		b.WriteString(s)
		return nil
	}, logfile.Options{Fault: func(f *logfile.ReadError) { faults = append(faults, f.Error()) }})
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), faults
}

// The names are those that Caddy's writer gives: see the rotation in integration/.
func TestRolledFindsWhatTheWriterRolled(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "audit.jsonl", at(9))
	for name, text := range map[string]string{
		"audit-2026-11-24T13-21-50.754-size.jsonl.gz": at(2),
		"audit-2026-11-24T13-21-50.754-size_1.jsonl":  at(3),
		"audit-2026-11-20T00-00-00.000-time.jsonl":    at(4), // the clock of names is the machine's
		"audit-20.11.2026-size.jsonl":                 at(1), // another form of time
		"audit-2026-11-25T00-00-00.000-size.jsonl":    `{"seq":9,"prev":"00","ts":"2026-11-24T13:21:00Z"}` + "\n",
		"audit-2026-11-26T00-00-00.000-size.jsonl":    `{"seq":10,"prev":"00","ts":"2026-11-24T13:21:00Z"}` + "\n",
		"audit-2026-11-27T00-00-00.000-size.jsonl":    "torn\n" + at(5),
		// being compressed
		"audit-2026-11-27T00-00-00.000-size.jsonl.gz": "x",
		// others' files
		"audit-2.jsonl": at(0), "audit.cli.jsonl": at(0), "audit-x-size.jsonl": at(0),
		"audit-2026-11-24T13-21-50.754-size.log": at(0), "my-audit-2026-size.jsonl": at(0), "audit-2026-size.jsonl.bak": at(0),
	} {
		put(t, dir, name, text)
	}
	found, err := logfile.Rolled(filepath.Join(dir, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range found {
		found[i] = strings.TrimPrefix(filepath.Base(found[i]), "audit-")
	}
	want := []string{
		"20.11.2026-size.jsonl", "2026-11-24T13-21-50.754-size.jsonl.gz", "2026-11-24T13-21-50.754-size_1.jsonl",
		"2026-11-20T00-00-00.000-time.jsonl", "2026-11-27T00-00-00.000-size.jsonl",
		"2026-11-25T00-00-00.000-size.jsonl", "2026-11-26T00-00-00.000-size.jsonl",
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSourcesAreReadInOrderAndOnce(t *testing.T) {
	dir := t.TempDir()
	log := put(t, dir, "audit.jsonl", at(3)+at(4))
	put(t, dir, "audit-2026-11-24T13-21-50.754-size.jsonl.gz", at(2))
	first := put(t, dir, "audit-2026-11-23T13-21-50.754-size.jsonl", at(1)+"no end")
	sources, err := logfile.Sources(strings.NewReader("in\n"), first, "-", log, dir+"/./audit.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	// Compressed since it was found.
	put(t, dir, "audit-2026-11-23T13-21-50.754-size.jsonl.gz", at(1)+"no end")
	text, faults := scan(t, sources)
	want := `audit-2026-11-23T13-21-50.754-size.jsonl:1 {"ts":"2026-11-24T13:21:01Z","msg":"audit"}
audit-2026-11-23T13-21-50.754-size.jsonl:2 no end
audit-2026-11-24T13-21-50.754-size.jsonl.gz:1 {"ts":"2026-11-24T13:21:02Z","msg":"audit"}
audit.jsonl:1 {"ts":"2026-11-24T13:21:03Z","msg":"audit"}
audit.jsonl:2 {"ts":"2026-11-24T13:21:04Z","msg":"audit"}
-:1 in
`
	if diff := cmp.Diff(want, text); diff != "" || faults != nil {
		t.Errorf("%v (-want +got):\n%s", faults, diff)
	}
}

// Files that were rolled from one log are that log, in their order, also where
// the log itself is not among them.
func TestRolledFilesAreNoLogsOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	second := put(t, dir, "a-2026-11-23T13-21-50.754-size.jsonl", at(2)) // named by another clock
	first := put(t, dir, "a-2026-11-24T13-21-50.754-size_1.jsonl.gz", at(1))
	other := put(t, dir, "b.jsonl", at(3))
	rolled := put(t, dir, "b-2026-11-24T13-21-50.754-time.jsonl.zst", "")
	logs := logfile.Logs(nil, second, other, first, rolled, first)
	if len(logs) != 2 || logs[0].Name != filepath.Join(dir, "a.jsonl") || logs[1].Name != other {
		t.Fatalf("%+v", logs)
	}
	for i, want := range []string{first + second, rolled + other} {
		sources, err := logs[i].Sources()
		if err != nil {
			t.Fatal(err)
		}
		logfile.Close(sources)
		got := ""
		for _, s := range sources {
			got += s.Name
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if _, err := logfile.Logs(nil, filepath.Join(dir, "c-2026-11-24T13-21-50.754-time.jsonl"))[0].Sources(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestSourcesRejectsALogThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	if _, err := logfile.Sources(nil, put(t, dir, "one.jsonl", ""), filepath.Join(dir, "audit.jsonl")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	// Between a rotation and the first record after it there is no file.
	put(t, dir, "audit-2026-11-24T13-21-50.754-size.jsonl.gz", at(2))
	if list, err := logfile.Sources(nil, filepath.Join(dir, "audit.jsonl")); err != nil || len(list) != 1 {
		t.Errorf("%v %v", list, err)
	}
}

// What cannot be read is told in its place, and the rest is read.
func TestScanGoesOnBehindAFault(t *testing.T) {
	dir := t.TempDir()
	a := put(t, dir, "a.jsonl", "one\n"+strings.Repeat("x", logfile.MaxLine+1)+"\nthree\n")
	b := put(t, dir, "b.gz", strings.Repeat("four\n", 100))
	packed, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, "b.jsonl", string(packed[:len(packed)-8]))
	sources, err := logfile.Sources(nil, a, filepath.Join(dir, "b.jsonl"), dir, put(t, dir, "c.jsonl", "five\n"))
	if err != nil {
		t.Fatal(err)
	}
	text, faults := scan(t, sources)
	if want := "a.jsonl:1 one\na.jsonl:3 three\n"; !strings.HasPrefix(text, want) || !strings.HasSuffix(text, "c.jsonl:1 five\n") {
		t.Errorf("%.200q", text)
	}
	want := []string{
		a + ":2: " + logfile.ErrTooLong.Error(),
		filepath.Join(dir, "b.jsonl") + ":101: unpacking it: unexpected EOF",
		dir + ":1: read " + dir + ": is a directory",
	}
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// However many blocks there are and whoever works on them, order is kept and
// progress is told in stored bytes.
func TestScanKeepsOrder(t *testing.T) {
	var text, want strings.Builder
	for n := range 100_000 {
		fmt.Fprintf(&text, "line %d\n", n)
		fmt.Fprintf(&want, "audit.jsonl:%d line %d\n", n+1, n)
	}
	path := put(t, t.TempDir(), "audit.jsonl", text.String())
	sources, err := logfile.Sources(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := scan(t, sources)
	if got != want.String() {
		t.Error("lines are missing, or in another order")
	}
}

func TestScanEndsWhereItIsToldTo(t *testing.T) {
	path := put(t, t.TempDir(), "audit.jsonl", strings.Repeat("line\n", 2_000_000))
	enough := errors.New("enough")
	for name, c := range map[string]struct {
		take func(cancel func()) error
		want error
	}{
		"by take":        {func(func()) error { return enough }, enough},
		"by the context": {func(cancel func()) error { cancel(); return nil }, context.Canceled},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		sources, err := logfile.Sources(nil, path)
		if err != nil {
			t.Fatal(err)
		}
		var last int64
		err = logfile.Scan(ctx, sources, func(logfile.Block) int { return 0 }, func(int) error { return c.take(cancel) }, logfile.Options{Progress: func(n int64) { last = n }})
		if !errors.Is(err, c.want) || last > 10_000_000 {
			t.Errorf("%s: %v after %d bytes", name, err, last)
		}
	}
}
