package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/sqlite"
)

func TestOpenMakesFilesForTheirOwnerAlone(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "made", "by 100% us?#")
	path := filepath.Join(folder, "store.db")
	s := open(t, path, "default")
	insert(t, s, "a")

	modes := map[string]fs.FileMode{folder: 0o700, filepath.Dir(folder): 0o700}
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		modes[path+suffix] = 0o600
	}
	for name, want := range modes {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), want)
		}
	}
}

// Who may write to the file makes keys of his own, and who may read it learns
// whose hashes to look for.
func TestOpenRejectsFilesOfOthers(t *testing.T) {
	for _, mode := range []fs.FileMode{0o644, 0o640, 0o660, 0o602, 0o610} {
		t.Run(mode.String(), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			if err := open(t, path, "default").Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			rejects(t, path, "chmod 600 "+path)
		})
	}
	t.Run("a folder", func(t *testing.T) { rejects(t, t.TempDir(), "not a file") })
}

func rejects(t *testing.T, path, text string) error {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, "default")
	if err == nil {
		s.Close()
		t.Fatal("it was opened")
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("%v; it does not say %q", err, text)
	}
	return err
}

func TestOpenRejectsDamage(t *testing.T) {
	tests := []struct {
		name   string
		damage func(whole []byte) []byte
	}{
		{"another kind of file", func([]byte) []byte { return []byte("# not a database\nanswer: 42\n") }},
		{"noise", func(b []byte) []byte { return bytes.Repeat([]byte{0xa5, 0x5a, 0x01}, len(b)/3) }},
		{"cut in a page", func(b []byte) []byte { return b[:5000] }},
		{"cut between pages", func(b []byte) []byte { return b[:len(b)/4096/2*4096] }},
		{"a schema of noise", func(b []byte) []byte {
			for i := 100; i < 4096; i++ {
				b[i] = byte(i * 7)
			}
			return b
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			damaged := tt.damage(whole(t))
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := rejects(t, path, path); !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("%v", err)
			}
			unchanged(t, path, damaged)
		})
	}
}

// whole is the file of a store with rows.
func whole(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, "default")
	for i := range 50 {
		insert(t, s, fmt.Sprint(i))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unchanged(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Error("the file was changed")
	}
}

// Damage that lies deeper shows when a row is read.
func TestReadRejectsDamage(t *testing.T) {
	b := whole(t)
	for i := 2 * 4096; i < len(b); i++ {
		b[i] = 0xa5
	}
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), path, "default")
	if err == nil {
		t.Cleanup(func() { s.Close() })
		_, err = s.Credential(t.Context(), "7")
	}
	if !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

// shell changes a database as another program would.
func shell(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenRejectsOtherPrograms(t *testing.T) {
	path := filepath.Join(t.TempDir(), "theirs.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	shell(t, path, `CREATE TABLE accounts (id INTEGER PRIMARY KEY)`)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rejects(t, path, "another program")
	unchanged(t, path, before)
}

func TestOpenOfALaterVersion(t *testing.T) {
	tests := []struct {
		name      string
		minReader string
		serves    bool
	}{{"that serves this one", "1", true}, {"that does not", "99", false}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			s := open(t, path, "default")
			insert(t, s, "a")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			shell(t, path,
				`INSERT INTO scopegate_migrations (version_id, is_applied) VALUES (99, 1)`,
				`UPDATE scopegate_meta SET value = '`+tt.minReader+`' WHERE key = 'min_reader'`)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if tt.serves {
				if _, err := open(t, path, "default").Credential(t.Context(), "a"); err != nil {
					t.Error(err)
				}
				return
			}
			if err := rejects(t, path, "restore a backup"); !errors.Is(err, store.ErrTooNew) {
				t.Errorf("%v", err)
			}
			unchanged(t, path, before)
		})
	}
}

// A process that dies leaves its last commits in the log. Who folds them in
// before he has looked has changed what he must not touch.
func TestOpenLeavesTheLogOfALaterVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	insert(t, open(t, path, "default"), "a")
	shell(t, path,
		`INSERT INTO scopegate_migrations (version_id, is_applied) VALUES (99, 1)`,
		`UPDATE scopegate_meta SET value = '99' WHERE key = 'min_reader'`)

	left := filepath.Join(t.TempDir(), "store.db")
	files := map[string][]byte{}
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil || len(b) == 0 {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if err := os.WriteFile(left+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
		files[left+suffix] = b
	}
	if err := rejects(t, left, "restore a backup"); !errors.Is(err, store.ErrTooNew) {
		t.Errorf("%v", err)
	}
	for name, b := range files {
		unchanged(t, name, b)
	}
}

// A process may die between any two steps of making the database.
func TestOpenGoesOnWhereAnotherDied(t *testing.T) {
	tests := []struct {
		name string
		left []string
	}{
		{"an empty file", nil},
		{"an empty log", []string{`PRAGMA journal_mode = WAL`}},
		{"a list of migrations", []string{
			`CREATE TABLE scopegate_migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, version_id INTEGER NOT NULL,
				is_applied INTEGER NOT NULL, tstamp TIMESTAMP DEFAULT (datetime('now')))`,
			`INSERT INTO scopegate_migrations (version_id, is_applied) VALUES (0, 1)`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			shell(t, path, tt.left...)
			insert(t, open(t, path, "default"), "a")
		})
	}
}

func TestOpenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range 8 {
		all.Go(func() {
			<-start
			s, err := sqlite.Open(t.Context(), path, "default")
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if _, err := s.Insert(t.Context(), credential(fmt.Sprint(i)), 0); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	all.Wait()
	if n := count(t, open(t, path, "default")); n != 8 {
		t.Errorf("%d rows, want 8", n)
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(t.TempDir(), "store.db")
	if s, err := sqlite.Open(ctx, path, "default"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", s, err)
	}
}

// The context of Open is not that of the store.
func TestStoreOutlivesTheContextOfOpen(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "store.db"), "default")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cancel()
	insert(t, s, "a")
	if err := s.Backup(t.Context(), filepath.Join(t.TempDir(), "backup.db")); err != nil {
		t.Error(err)
	}
}
