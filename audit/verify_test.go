package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/audit/logfile"
)

// shelf is an anchor that keeps all it gets.
type shelf struct {
	mu    sync.Mutex
	notes []string
}

func (s *shelf) put(_ context.Context, c audit.Signature) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, c.Note)
	return nil
}

// anchored writes a log of some records, and returns its lines, what anchors
// keep of it, and its keys.
func anchored(t testing.TB, records int) (lines [][]byte, o audit.VerifyOptions) {
	t.Helper()
	dir := t.TempDir()
	p := &place{path: dir + "/audit.jsonl", most: 64 << 20, keys: keys(t)}
	s, err := audit.Open(p.options())
	if err != nil {
		t.Fatal(err)
	}
	kept := &shelf{}
	s.Anchor(kept.put, &counts{})
	l, err := audit.New(audit.Options{Gateway: "default", Durable: s})
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		r := decided()
		r.UUID = fmt.Sprint("u", i)
		if err := l.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	text := read(t, p.path)
	lines = bytes.SplitAfter(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	lines[len(lines)-1] = append(lines[len(lines)-1], '\n')
	return lines, audit.VerifyOptions{Keys: []string{p.keys.Public()}, Anchors: kept.notes}
}

// Every kind of harm is found, told by its name, and at the line where it is.
func TestVerifyFindsEveryEdit(t *testing.T) {
	const at = 150
	lines, o := anchored(t, 300)
	join := func(parts ...[][]byte) []byte { return bytes.Join(slices.Concat(parts...), nil) }
	line := func(text string) [][]byte { return [][]byte{[]byte(text)} }
	tests := []struct {
		name  string
		text  []byte
		fault audit.Fault
		lines []int // one of which is named first
	}{
		{"a byte changed", join(lines[:at], line(strings.Replace(string(lines[at]), "billing", "bilking", 1)), lines[at+1:]), audit.Edited, []int{at + 1}},
		{"made unreadable", join(lines[:at], line("{}\n"), lines[at+1:]), audit.Edited, []int{at + 1}},
		{"the hash of the one before changed", join(lines[:at], line(strings.Replace(string(lines[at]), `"prev":"`, `"prev":"0`, 1)), lines[at+1:]), audit.Edited, []int{at, at + 1}},
		{"one removed", join(lines[:at], lines[at+1:]), audit.Removed, []int{at + 1}},
		{"many removed", join(lines[:at], lines[at+50:]), audit.Removed, []int{at + 1}},
		{"the first removed", join(lines[1:]), audit.Removed, []int{1}},
		{"a copy inserted", join(lines[:at], lines[at-1:at], lines[at:]), audit.Inserted, []int{at + 1}},
		{"text inserted", join(lines[:at], line("hello\n"), lines[at:]), audit.Inserted, []int{at + 1}},
		{"an empty line inserted", join(lines[:at], line("\n"), lines[at:]), audit.Inserted, []int{at + 1}},
		{"text before the first", join(line("hello\n"), lines), audit.Inserted, []int{1}},
		{"two exchanged", join(lines[:at], lines[at+1:at+2], lines[at:at+1], lines[at+2:]), audit.Reordered, []int{at + 1}},
		{"one moved to the end", join(lines[:at], lines[at+1:], lines[at:at+1]), audit.Reordered, []int{at + 1}},
		{"the end cut off", join(lines[:at]), audit.CutOff, []int{at}},
		{"cut in the midst of a line", join(lines[:at], [][]byte{lines[at][:20]}), audit.Inserted, []int{at + 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := verified(tt.text, o)
			if r.Sound() {
				t.Fatal("nothing found")
			}
			f := r.Findings[0]
			if f.Fault != tt.fault || !slices.Contains(tt.lines, f.Line) || f.File != "audit.jsonl" || f.Text == "" {
				t.Errorf("first finding: %+v, want %s at %v", f, tt.fault, tt.lines)
			}
		})
	}
	r := verified(join(lines), o)
	if !r.Sound() || r.Anchored != r.Last-1 || r.Signed != r.Last-1 || !r.Trusted {
		t.Errorf("untouched: %+v", r)
	}
}

// Whoever has written a whole log anew, and even has its key, cannot make it
// fit what was anchored; nor can another log stand for it.
func TestVerifyFindsAReplacedLog(t *testing.T) {
	lines, o := anchored(t, 300)
	t.Run("by another one", func(t *testing.T) {
		other, _ := anchored(t, 300)
		r := verified(bytes.Join(other, nil), o)
		if r.Sound() || r.Findings[0].Fault != audit.Forged {
			t.Errorf("findings: %+v", r.Findings)
		}
	})
	t.Run("with its own key", func(t *testing.T) {
		p := newPlace(t)
		first, _ := audit.NewKeys()
		p.keys, _ = audit.ParseKeys(first)
		var notes [2][]string
		var text []byte
		for i := range 2 {
			p.path = t.TempDir() + "/audit.jsonl"
			s, l, end := p.open(t)
			kept := &shelf{}
			s.Anchor(kept.put, &counts{})
			write(t, l, 20)
			end()
			notes[i], text = kept.notes, p.lines(t)
		}
		o := audit.VerifyOptions{Keys: []string{p.keys.Public()}, Anchors: notes[0]}
		r := verified(text, o)
		if r.Sound() || r.Findings[0].Fault != audit.Replaced {
			t.Errorf("findings: %+v", r.Findings)
		}
	})
	t.Run("an anchor of another key", func(t *testing.T) {
		r := verified(bytes.Join(lines, nil), audit.VerifyOptions{Anchors: []string{strings.Replace(o.Anchors[0], "\n", "\n9", 1)}})
		if r.Sound() || r.Findings[0].Fault != audit.Replaced {
			t.Errorf("findings: %+v", r.Findings)
		}
	})
}

// The oldest files go when their time has come. What is left is checked as well,
// once it was said that they went on purpose.
func TestVerifyTakesPrunedLogs(t *testing.T) {
	lines, o := anchored(t, 300)
	o.Pruned = true
	r := verified(bytes.Join(lines[120:], nil), o)
	if !r.Sound() || r.First != 121 || r.Anchored != r.Last-1 {
		t.Errorf("report: %+v", r)
	}
	o.Keys = nil // what would tell of the key is gone as well
	if r := verified(bytes.Join(lines[120:], nil), o); r.Unchecked != 3 || r.Signed != 0 {
		t.Errorf("without a key: %+v", r)
	}
}

func TestVerifyTakesAnything(t *testing.T) {
	for _, text := range []string{"", "\n", "{}", `{"seq":1,"prev":"","kind":"x"}`, strings.Repeat("a", 8<<20), "\x00\xff\n"} {
		if r := scanned(t, strings.NewReader(text), audit.VerifyOptions{}); r.Sound() {
			t.Errorf("%.20q is called a log: %+v", text, r)
		}
	}
}

// scanned checks what comes from standard input.
func scanned(t *testing.T, from io.Reader, o audit.VerifyOptions) audit.Report {
	t.Helper()
	files, err := logfile.Sources(from, logfile.Stdin)
	if err != nil {
		t.Fatal(err)
	}
	v := audit.NewVerifier(o)
	if err := v.Scan(t.Context(), files, nil); err != nil {
		t.Error(err)
	}
	return v.Finish()
}

func TestVerifyTellsOfAFileThatBreaksOff(t *testing.T) {
	lines, o := anchored(t, 5)
	o.Anchors = nil
	r := scanned(t, io.MultiReader(bytes.NewReader(bytes.Join(lines[:3], nil)), broken{}), o)
	if r.Sound() || r.Findings[0].Line != 4 || !strings.Contains(r.Findings[0].Text, errDisk.Error()) {
		t.Errorf("report: %+v", r)
	}
}

// Who verifies a log that is in use may meet a line that is half written.
func TestVerifyTakesALineThatIsBeingWritten(t *testing.T) {
	lines, o := anchored(t, 5)
	o.Anchors = nil
	half := [][]byte{lines[4][:40]}
	if r := scanned(t, bytes.NewReader(bytes.Join(append(slices.Clone(lines[:4]), half...), nil)), o); !r.Sound() || !r.Partial || r.Last != 4 {
		t.Errorf("at the end: %+v", r)
	}
	if r := scanned(t, bytes.NewReader(bytes.TrimSuffix(bytes.Join(lines, nil), []byte("\n"))), o); !r.Sound() || r.Partial || r.Last != 9 {
		t.Errorf("but for its newline: %+v", r)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errDisk }

// Whatever is in a file, checking it ends, and says nothing sound of bytes that
// differ from those that were written.
func FuzzVerify(f *testing.F) {
	lines, o := anchored(f, 5)
	whole := bytes.Join(lines, nil)
	f.Add(whole)
	f.Add([]byte("{\"seq\":1,\"prev\":\"\",\n"))
	for i := range lines {
		f.Add(bytes.Join(slices.Delete(slices.Clone(lines), i, i+1), nil))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := verified(text, o)
		if r.Sound() && !bytes.HasPrefix(text, bytes.Join(lines[:len(lines)-1], nil)) {
			t.Errorf("called sound: %q", text)
		}
		for _, finding := range r.Findings {
			if finding.Line < 0 || finding.Line > r.Lines {
				t.Errorf("a finding at line %d of %d", finding.Line, r.Lines)
			}
		}
	})
}

func FuzzNotes(f *testing.F) {
	_, o := anchored(f, 1)
	f.Add(o.Anchors[0] + "\n" + o.Anchors[0])
	f.Add("— a b\n\n\n— ")
	f.Fuzz(func(t *testing.T, text string) {
		for _, note := range audit.SplitNotes(text) {
			_, _ = audit.ParseSignature(note, o.Keys)
		}
		// Whatever a write has left that broke off, the next one is found.
		notes := audit.SplitNotes(text + "\n" + o.Anchors[0])
		if last := notes[len(notes)-1]; last != o.Anchors[0] {
			t.Errorf("behind %q: %q", text, last)
		}
	})
}

// A gateway that starts, and a command that prints its key, make one key
// together: else the log of the first would be forged from its next start on.
func TestLoadKeysMakesOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "log.key")
	made := make(chan string, 20)
	var all sync.WaitGroup
	for range cap(made) {
		all.Go(func() {
			k, err := audit.LoadKeys(path)
			if err != nil {
				t.Error(err)
				return
			}
			made <- k.Public()
		})
	}
	all.Wait()
	close(made)
	first := <-made
	for key := range made {
		if key != first {
			t.Fatal("there are several keys")
		}
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}
