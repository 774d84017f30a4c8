package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/sqlite"
)

func TestBackupWhileWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, elsewhere := open(t, path, "default"), open(t, path, "staging")
	for i := range 30 {
		insert(t, s, fmt.Sprintf("before-%d", i))
	}
	insert(t, elsewhere, "elsewhere")
	if err := s.Beat(t.Context(), store.Replica{ID: "here", Silence: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Acquire(t.Context(), "work", "here", time.Hour); err != nil || !ok {
		t.Fatal(ok, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	wrote, under := make(chan int), make(chan struct{})
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			if _, err := s.Insert(t.Context(), credential(fmt.Sprintf("meanwhile-%d", n)), 0); err != nil {
				t.Error(err)
				break
			}
			if n == 5 {
				close(under)
			}
		}
		wrote <- n
	}()
	<-under
	target := filepath.Join(t.TempDir(), "backup of today?.db")
	if err := s.Backup(t.Context(), target); err != nil {
		t.Error(err)
	}
	stop()
	after := <-wrote

	info, err := os.Stat(target)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the backup has mode %v", info.Mode().Perm())
	}
	copied := open(t, target, "default")
	if n := count(t, copied); n < 36 || n > 30+after {
		t.Errorf("the backup has %d rows; at least 36 were there before it, %d after", n, 30+after)
	}
	for i := range 30 {
		same(t, copied, s, fmt.Sprintf("before-%d", i))
	}
	same(t, open(t, target, "staging"), elsewhere, "elsewhere")
	if list, _, err := copied.Replicas(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("somebody serves from the backup: %v %v", list, err)
	}
	if ok, err := copied.Acquire(t.Context(), "work", "there", time.Hour); err != nil || !ok {
		t.Errorf("a lease came along: %v %v", ok, err)
	}
	insert(t, copied, "after")
	if n := count(t, s); n != 30+after {
		t.Errorf("%d rows, want %d", n, 30+after)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(target), "*.part-*")); len(left) > 0 || err != nil {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func same(t *testing.T, a, b *sqlite.Store, id string) {
	t.Helper()
	want, err := b.Credential(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.Credential(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBackupRejects(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"), "default")
	there := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path string
		want       error
	}{
		{"a file that is there", there, fs.ErrExist},
		{"a link that leads nowhere", dangling, fs.ErrExist},
		{"no folder", filepath.Join(t.TempDir(), "none", "backup"), fs.ErrNotExist},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := s.Backup(t.Context(), tt.path); !errors.Is(err, tt.want) {
				t.Errorf("%v", err)
			}
		})
	}
	unchanged(t, there, []byte("mine"))
}

func TestBackupEndsWithItsContext(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"), "default")
	folder := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Backup(ctx, filepath.Join(folder, "backup")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(folder); len(left) > 0 || err != nil {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// A backup goes on as the store does, and tells followers of what it suspends.
func TestRestoreOfABackup(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"), "default")
	insert(t, s, "a")
	target := filepath.Join(t.TempDir(), "backup.db")
	if err := s.Backup(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	copied := open(t, target, "default")
	if n, err := copied.Restored(t.Context(), "restored"); n != 1 || err != nil {
		t.Fatalf("%d suspended, %v", n, err)
	}
	if c, err := copied.Credential(t.Context(), "a"); err != nil || c.State != "suspended" {
		t.Errorf("%+v, %v", c, err)
	}
	if marks := column(t, target, `SELECT restored IS NOT NULL FROM scopegate_gateways`); !cmp.Equal(marks, []int64{1}) {
		t.Errorf("marked as restored: %v", marks)
	}
	if c, err := s.Credential(t.Context(), "a"); err != nil || c.State == store.Revoked {
		t.Errorf("%+v, %v", c, err)
	}
}
