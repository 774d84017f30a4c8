//go:build unix

package audit

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Nothing is served unrecorded since somebody has put what keeps nothing in the
// place of the log; and once the log is back, it goes on.
func TestLogIsNotReplacedByWhatKeepsNothing(t *testing.T) {
	tests := map[string]func(path string) error{
		"a link to /dev/null": func(path string) error { return os.Symlink(os.DevNull, path) },
		"a pipe":              func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a folder":            func(path string) error { return os.Mkdir(path, 0o700) },
	}
	for name, put := range tests {
		t.Run(name, func(t *testing.T) {
			_, l, m := meddle(t, Changes)
			if err := errors.Join(os.Rename(m.path, m.path+".old"), put(m.path)); err != nil {
				t.Fatal(err)
			}
			if err := l.WriteChange(aRecord("a")); err == nil {
				t.Error("a change went on")
			}
			if err := errors.Join(os.Remove(m.path), os.Rename(m.path+".old", m.path)); err != nil {
				t.Fatal(err)
			}
			if err := l.WriteChange(aRecord("b")); err != nil {
				t.Error(err)
			}
			if m.times(t, `"uuid":"a"`) != 0 || m.times(t, `"uuid":"b"`) != 1 {
				t.Error("not each record is where it belongs")
			}
		})
	}
}

// Where a file cannot be locked, nobody is sent to look for another process.
func TestLockTellsWhatFailed(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tryLock(file), file.Close()); err != nil {
		t.Fatal(err)
	}
	if err := tryLock(file); err == nil || errors.Is(err, ErrInUse) {
		t.Errorf("err = %v", err)
	}
}
