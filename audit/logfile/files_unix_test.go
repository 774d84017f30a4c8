//go:build unix

package logfile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/scopegate/scopegate/audit/logfile"
)

// What can be put beside a log to have its readers wait, or pass over a part of
// it, is none of it. Files may be kept elsewhere, and a link be in their place.
func TestRolledPassesOverWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	rolled := func(day int) string { return filepath.Join(dir, fmt.Sprintf("audit-2026-11-%d-size.jsonl", day)) }
	elsewhere := put(t, t.TempDir(), "kept", at(1))
	put(t, dir, filepath.Base(rolled(15))+".gz", at(2))
	if err := errors.Join(
		syscall.Mkfifo(rolled(11), 0o600), os.Mkdir(rolled(12), 0o700), os.Symlink(dir, rolled(13)),
		os.Symlink(elsewhere, rolled(14)), syscall.Mkfifo(rolled(15), 0o600), os.Symlink("gone", rolled(16)),
		os.Symlink(rolled(11), rolled(17)),
	); err != nil {
		t.Fatal(err)
	}
	found, err := logfile.Rolled(filepath.Join(dir, "audit.jsonl"))
	if want := []string{rolled(16), rolled(14), rolled(15) + ".gz"}; err != nil || !slices.Equal(found, want) {
		t.Errorf("%q, %v, want %q", found, err, want)
	}
}
