package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"sync"
)

// creating keeps a file from being closed after SQLite has opened it: a
// process that closes any descriptor of a file loses all its locks on it.
var creating sync.Mutex

// prepare makes the file, if there is none, and refuses one that others may
// open: hashes are no secrets, but who may write there makes keys of his own.
// SQLite gives the files that it puts beside it the same mode.
func prepare(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return create(path)
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a file")
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("others than its owner may open the file (mode %04o); run `chmod 600 %s`", mode, path)
	}
	return nil
}

// create makes an empty file, unless another process was quicker.
func create(path string) error {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	creating.Lock()
	defer creating.Unlock()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncFolder(folder)
}

// syncFolder makes the names in a folder outlive a power cut.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Parameters of connections. None may make a file, which would not have our
// mode. The timeouts, in milliseconds, are for locks of other processes; for
// the writer's see begin.
var (
	reading    = url.Values{"mode": {"rw"}, "_busy_timeout": {"5000"}, "_query_only": {"1"}}
	writing    = url.Values{"mode": {"rw"}, "_busy_timeout": {"1"}, "_synchronous": {"FULL"}, "_foreign_keys": {"1"}, "_txlock": {"immediate"}}
	migrating  = url.Values{"mode": {"rw"}, "_busy_timeout": {"60000"}, "_synchronous": {"FULL"}, "_txlock": {"immediate"}}
	inspecting = url.Values{"mode": {"ro"}, "_busy_timeout": {"5000"}}
)

// connect returns a pool whose connections stay open.
func connect(path string, conns int, parameters url.Values) (*sql.DB, error) {
	// What a change of many rows has to remember goes into memory: a container has
	// no folder for temporary files, and SQLite then fails in the middle of it.
	parameters = maps.Clone(parameters)
	parameters.Set("_pragma", "temp_store(memory)")
	// As a URI, so that no character of the path is taken for a parameter.
	uri := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: parameters.Encode()}
	db, err := sql.Open("sqlite", uri.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}
