package audit

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// meddled is a log's writer with somebody who meddles with its file.
type meddled struct {
	*os.File
	*meddler
}

type meddler struct {
	path          string
	before, after func(*meddled) error // each write
}

func (m *meddled) Write(p []byte) (int, error) {
	if err := call(m.before, m); err != nil {
		return 0, err
	}
	n, err := m.File.Write(p)
	return n, errors.Join(err, call(m.after, m))
}

func call(do func(*meddled) error, m *meddled) error {
	if do == nil {
		return nil
	}
	return do(m)
}

// roll makes a new file, as Caddy's writer does.
func (m *meddled) roll() (err error) {
	names, _ := filepath.Glob(m.path + ".*")
	rolled := strings.TrimSuffix(m.path, ".jsonl") + "-" + string(rune('1'+len(names))) + "-size.jsonl"
	if err := errors.Join(m.Close(), os.Rename(m.path, rolled)); err != nil {
		return err
	}
	m.File, err = os.OpenFile(m.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	return err
}

// meddle opens a log whose later writes are meddled with.
func meddle(t *testing.T, d Durability) (s *Sink, l *Log, m *meddler) {
	t.Helper()
	m = &meddler{path: filepath.Join(t.TempDir(), "audit.jsonl")}
	s, err := Open(FileOptions{
		Path: m.path, Keys: made(t), Records: 100, Every: DefaultEvery, Durability: d,
		Open: func() (io.WriteCloser, error) {
			file, err := os.OpenFile(m.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			return &meddled{file, m}, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if l, err = New(Options{Gateway: "default", Durable: s}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.before, m.after = nil, nil
		_ = errors.Join(l.Close(), s.Close())
	})
	return s, l, m
}

func aRecord(uuid string) *Record {
	return &Record{UUID: uuid, Phase: Decided, Decision: Allow, Reason: "allowed"}
}

// times is how often a text is in the log and what was rolled from it.
func (m *meddler) times(t *testing.T, text string) (n int) {
	t.Helper()
	names, err := filepath.Glob(strings.TrimSuffix(m.path, ".jsonl") + "*.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		held, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n += bytes.Count(held, []byte(text))
	}
	return n
}

// Whoever moves the log just when it was seen that it is there does not have a
// change recorded where nobody finds it.
func TestChangeIsFoundThoughItsLogWasMovedMeanwhile(t *testing.T) {
	away := func(m *meddled) error { return os.Rename(m.path, m.path+".old") }
	tests := map[string]struct {
		before, after func(*meddled) error
		reopened      int
	}{
		"untouched":           {nil, nil, 0},
		"moved before":        {away, nil, 1},
		"moved behind":        {nil, away, 1},
		"deleted":             {func(m *meddled) error { return os.Remove(m.path) }, nil, 1},
		"replaced":            {func(m *meddled) error { return errors.Join(away(m), os.WriteFile(m.path, nil, 0o600)) }, nil, 1},
		"cut":                 {func(m *meddled) error { return os.Truncate(m.path, 0) }, nil, 1},
		"rolled by size":      {(*meddled).roll, nil, 0},
		"rolled by the clock": {nil, (*meddled).roll, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, l, m := meddle(t, Changes)
			once := func(do func(*meddled) error) func(*meddled) error {
				return func(m *meddled) error {
					m.before, m.after = nil, nil
					return call(do, m)
				}
			}
			switch {
			case tt.before != nil:
				m.before = once(tt.before)
			case tt.after != nil:
				m.after = once(tt.after)
			}
			if err := l.WriteChange(aRecord("found")); err != nil {
				t.Fatal(err)
			}
			found := 1
			if name == "cut" {
				found = 2 // behind the cut, and behind the line that tells of it
			}
			if n := m.times(t, `"uuid":"found"`); n != found {
				t.Errorf("the record is there %d times", n)
			}
			if n := m.times(t, `"kind":"reopened"`); n != tt.reopened {
				t.Errorf("reopened: %d times", n)
			}
		})
	}
}

// One who moves it each time has no change go on.
func TestChangeIsRefusedWhoseLogIsMovedEachTime(t *testing.T) {
	_, l, m := meddle(t, Changes)
	m.before = func(m *meddled) error { return os.Remove(m.path) }
	if err := l.WriteChange(aRecord("a")); !errors.Is(err, errStrayed) {
		t.Errorf("err = %v", err)
	}
	if err := l.WriteRevocation(aRecord("b")); err != nil { // the reserve has it
		t.Error(err)
	}
	m.before = nil
	if err := l.WriteChange(aRecord("c")); err != nil {
		t.Error(err)
	}
	if m.times(t, `"uuid":"a"`) != 0 || m.times(t, `"uuid":"b"`) != 1 || m.times(t, `"uuid":"c"`) != 1 {
		t.Error("not each record is where it belongs")
	}
}

// With `durability full` a line is on the disk also where the writer has rolled
// the file before it: what is synced is the file that holds it.
func TestFullDurabilitySyncsTheFileThatHasTheLine(t *testing.T) {
	s, l, m := meddle(t, Full)
	m.before = (*meddled).roll
	for range 3 {
		if err := l.Write(aRecord("a")); err != nil {
			t.Fatal(err)
		}
		s.writing.Lock()
		s.file.syncing.Lock()
		now, durable := s.file.info, s.file.now.durable
		s.file.syncing.Unlock()
		s.writing.Unlock()
		info, err := os.Stat(m.path)
		if err != nil || !os.SameFile(info, now) || durable != info.Size() {
			t.Fatalf("of %d bytes %d are on the disk, %v", info.Size(), durable, err)
		}
	}
}

// Whoever makes room on a full disk by deleting the log does not have the
// revocations of that time moved into what he deleted.
func TestReserveIsNotMovedIntoADeletedLog(t *testing.T) {
	_, l, m := meddle(t, Changes)
	m.before = func(*meddled) error { return syscall.ENOSPC }
	if err := l.WriteRevocation(aRecord("revoked")); err != nil {
		t.Fatal(err)
	}
	m.before = nil
	if err := errors.Join(os.Remove(m.path), l.Write(aRecord("a"))); err != nil {
		t.Fatal(err)
	}
	if m.times(t, "revoked") != 1 {
		t.Error("the revocation is lost")
	}
}

// Whoever makes room by deleting all that begins with the log's name deletes the
// reserve as well. What is in it, and what comes, must outlive the process.
func TestReserveIsMadeAnewWhereItWasDeleted(t *testing.T) {
	tests := map[string]func(path string) error{
		"deleted":  os.Remove,
		"replaced": func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, []byte("x\n"), 0o600)) },
	}
	for name, harm := range tests {
		t.Run(name, func(t *testing.T) {
			_, l, m := meddle(t, Changes)
			m.before = func(*meddled) error { return syscall.ENOSPC }
			reserve := m.path + ".reserve"
			for _, uuid := range []string{"one", "two", "three"} {
				if err := errors.Join(harm(reserve), l.WriteRevocation(aRecord(uuid))); err != nil {
					t.Fatal(err)
				}
			}
			held, err := os.ReadFile(reserve)
			if err != nil || bytes.Count(held, []byte("uuid")) != 3 || len(held) != reserveSize {
				t.Errorf("the reserve of %d bytes holds %q, %v", len(held), bytes.Trim(held, "\x00"), err)
			}
			if err := errors.Join(os.Remove(reserve), os.Mkdir(reserve, 0o700), os.WriteFile(reserve+"/x", nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			if l.WriteRevocation(aRecord("four")) == nil {
				t.Error("what would be gone with the process is called recorded")
			}
			m.before = nil
			if err := l.Write(aRecord("five")); err != nil {
				t.Fatal(err)
			}
			for uuid, want := range map[string]int{"one": 1, "two": 1, "three": 1, "four": 0, "five": 1} {
				if n := m.times(t, `"uuid":"`+uuid); n != want {
					t.Errorf("%s is there %d times", uuid, n)
				}
			}
		})
	}
}

// A mirror has what the log has, that too which the log could not be given at
// once.
func TestMirrorsHoldWhatTheReserveHolds(t *testing.T) {
	s, _, m := meddle(t, Changes)
	var mirror bytes.Buffer
	l, err := New(Options{Gateway: "mirrored", Durable: s, Mirrors: []io.Writer{&mirror}})
	if err != nil {
		t.Fatal(err)
	}
	write := func(do func(*Record) error, uuids ...string) {
		for _, uuid := range uuids {
			if err := do(aRecord(uuid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(l.Write, "a")
	m.before = func(*meddled) error { return syscall.ENOSPC }
	write(l.WriteRevocation, "b", "c")
	m.before = nil
	write(l.Write, "d")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range bytes.Lines(mirror.Bytes()) {
		if _, rest, ok := bytes.Cut(line, []byte(`"uuid":"`)); ok {
			got = append(got, string(rest[:1]))
		}
	}
	if !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("the mirror has %q", got)
	}
}
