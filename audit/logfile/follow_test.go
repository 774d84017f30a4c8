package logfile_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/scopegate/scopegate/audit/logfile"
)

// follower follows a log and keeps what it was told.
type follower struct {
	*logfile.Follower
	t      *testing.T
	lines  []string
	faults []string
}

func follow(t *testing.T, path string) *follower {
	t.Helper()
	f := &follower{Follower: logfile.Follow(path), t: t}
	t.Cleanup(f.Close)
	return f
}

// poll returns what is new, each line with its number.
func (f *follower) poll() string {
	f.t.Helper()
	f.lines = nil
	err := f.Poll(func(l logfile.Line) error {
		f.lines = append(f.lines, fmt.Sprintf("%d@%d:%s", l.Number, l.Offset, l.Text))
		return nil
	}, func(r *logfile.ReadError) { f.faults = append(f.faults, r.Error()) })
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.Join(f.lines, " ")
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFollowerWaitsForWholeLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	f := follow(t, path)
	for _, step := range []struct{ add, want string }{
		{"", ""},
		{"one\ntw", "1@0:one"},
		{"", ""},
		{"o\n", "2@4:two"},
		{"\n", "3@8:"},
		{"x\ny\nz", "4@9:x 5@11:y"},
		{strings.Repeat("z", logfile.MaxLine), ""},
		{"\nend\n", "7@" + fmt.Sprint(9+4+logfile.MaxLine+2) + ":end"},
	} {
		if step.add != "" {
			appendTo(t, path, step.add)
		}
		if got := f.poll(); got != step.want {
			t.Errorf("after %.20q: %s, want %s", step.add, got, step.want)
		}
	}
	if len(f.faults) != 1 || f.faults[0] != path+":6: "+logfile.ErrTooLong.Error() {
		t.Errorf("%q", f.faults)
	}
}

// However often the log is rolled between two looks, nothing is missed and
// nothing comes twice.
func TestFollowerGoesOverRotations(t *testing.T) {
	for name, compressed := range map[string]bool{"compressed": true, "plain": false} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.jsonl")
			n, want := 0, []string{}
			var packing sync.WaitGroup
			put := func() {
				n++
				line := fmt.Sprintf(`{"seq":%d,"ts":"x"}`, n)
				want = append(want, line)
				appendTo(t, path, line+"\n")
			}
			put()
			roll := func() { // as Caddy's writer does: it compresses while the log goes on
				to := fmt.Sprintf("%s-%d-size.jsonl", strings.TrimSuffix(path, ".jsonl"), n)
				if err := os.Rename(path, to); err != nil {
					t.Fatal(err)
				}
				if compressed {
					packing.Go(func() { pack(t, to) })
				}
			}
			roll() // before it is followed
			want = nil
			f, got := follow(t, path), []string{}
			look := func() {
				f.poll()
				for _, line := range f.lines {
					got = append(got, line[strings.Index(line, ":")+1:])
				}
			}
			put()
			look()
			for _, times := range []int{1, 0, 3, 2} {
				put()
				put()
				for range times {
					roll()
					put()
				}
				look()
			}
			packing.Wait()
			look()
			if strings.Join(got, " ") != strings.Join(want, " ") || f.faults != nil {
				t.Errorf("%v %v, want %v", got, f.faults, want)
			}
		})
	}
}

// pack compresses a file, beside it and then in its place.
func pack(t *testing.T, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(text)
	if err := errors.Join(w.Close(), os.WriteFile(path+".gz", packed.Bytes(), 0o600), os.Remove(path)); err != nil {
		t.Error(err)
	}
}

// A log that is deleted, replaced or cut under way is gone on with.
func TestFollowerSurvivesWhatBefallsAFile(t *testing.T) {
	dir := t.TempDir()
	path := put(t, dir, "audit.jsonl", "one\ntwo\n")
	f := follow(t, path)
	f.poll()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	appendTo(t, path, "cut\n")
	if got := f.poll(); got != "1@0:cut" || len(f.faults) != 1 || !strings.Contains(f.faults[0], "was cut") {
		t.Errorf("cut: %s %q", got, f.faults)
	}
	appendTo(t, path, "no end")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := f.poll(); got != "2@4:no end" {
		t.Errorf("deleted: %s", got)
	}
	appendTo(t, path, "again\n")
	if got := f.poll(); got != "1@0:again" {
		t.Errorf("there again: %s", got)
	}
	if err := os.Rename(put(t, dir, "other", "another\n"), path); err != nil {
		t.Fatal(err)
	}
	if got := f.poll(); got != "1@0:another" {
		t.Errorf("replaced: %s", got)
	}
}

// A log that keeps few files has deleted one before it could be read: that is
// told, and the rest is read.
func TestFollowerTellsOfARolledFileThatIsGone(t *testing.T) {
	dir := t.TempDir()
	path := put(t, dir, "audit.jsonl", "one\n")
	f := follow(t, path)
	f.poll()
	first, second := filepath.Join(dir, "audit-1-size.jsonl"), filepath.Join(dir, "audit-2-size.jsonl")
	if err := errors.Join(os.Rename(path, first), os.Symlink("gone", second)); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "audit.jsonl", "three\n")
	if got := f.poll(); got != "1@0:three" || len(f.faults) != 1 || !strings.HasPrefix(f.faults[0], second) {
		t.Errorf("%s %q", got, f.faults)
	}
}
