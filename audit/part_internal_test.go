package audit

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
)

// forgetful is a disk behind a cache that tells of what it could not take once
// and takes it for written from then on, as Linux does.
type forgetful struct {
	cache, disk []byte
	dirty       []bool // by byte
	fails       int    // so many of the next attempts
	evicts      bool   // what it could not take leaves the cache, too
}

func (f *forgetful) add(text string) {
	f.cache = append(f.cache, text...)
	f.disk = append(f.disk, make([]byte, len(text))...)
	for range text {
		f.dirty = append(f.dirty, true)
	}
}

func (f *forgetful) size() (int64, error) { return int64(len(f.cache)), nil }
func (f *forgetful) Close() error         { return nil }
func (f *forgetful) ReadAt(p []byte, at int64) (int, error) {
	return bytes.NewReader(f.cache).ReadAt(p, at)
}

func (f *forgetful) WriteAt(p []byte, at int64) (int, error) {
	for i := range p {
		f.dirty[at+int64(i)] = true
	}
	return copy(f.cache[at:], p), nil
}

var errDrive = errors.New("input/output error")

func (f *forgetful) datasync() error {
	failed := f.fails > 0
	for i, dirty := range f.dirty {
		switch {
		case !dirty:
		case !failed:
			f.disk[i] = f.cache[i]
		case f.evicts:
			f.cache[i] = 0
		}
		f.dirty[i] = false
	}
	if failed {
		f.fails--
		return errDrive
	}
	return nil
}

// A disk that failed and then says all is well has not what it had when it
// failed: that is written once more, and nothing counts as kept before.
func TestPartWritesAgainWhatAFailedDiskForgot(t *testing.T) {
	disk := &forgetful{}
	p := &part{file: disk}
	disk.add("kept\n")
	if err := p.sync(); err != nil {
		t.Fatal(err)
	}
	disk.add("forgotten\n")
	disk.fails = 2
	for range 2 {
		if err := p.sync(); !errors.Is(err, errDrive) {
			t.Fatalf("got %v from a disk that failed", err)
		}
		disk.add("more\n")
	}
	if err := p.sync(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(disk.disk, disk.cache) || string(disk.disk) != "kept\nforgotten\nmore\nmore\n" {
		t.Errorf("called kept: %q, on the disk: %q", disk.cache, disk.disk)
	}
	if int(p.durable) != len(disk.disk) || p.doubted {
		t.Errorf("%+v", p)
	}
}

// Where even the cache has it no more, nothing is called kept again.
func TestPartRejectsWhatTheDiskLost(t *testing.T) {
	disk := &forgetful{fails: 1, evicts: true}
	p := &part{file: disk}
	disk.add("lost\n")
	if err := p.sync(); !errors.Is(err, errDrive) {
		t.Fatal(err)
	}
	disk.add("later\n")
	for range 3 {
		if err := p.sync(); !errors.Is(err, errDiskLost) {
			t.Fatalf("got %v of a log with a hole", err)
		}
	}
}

// failing is a file whose disk fails.
type failing struct {
	osFile
	fails *int
}

func (f failing) datasync() error {
	if *f.fails > 0 {
		*f.fails--
		return errDrive
	}
	return f.osFile.datasync()
}

// No change goes on whose record a failed disk may have forgotten, and what was
// rolled meanwhile is not given up.
func TestChangesAreRefusedUntilTheDiskHasAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	text, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(FileOptions{
			Path: path, Keys: k, Records: 100, Every: DefaultEvery, Durability: Changes,
			Open: func() (io.WriteCloser, error) { return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) },
		})
		if err != nil {
			t.Fatal(err)
		}
		l, err := New(Options{Gateway: "default", Durable: s})
		if err != nil {
			t.Fatal(err)
		}
		fails := 2
		f := s.file
		f.syncing.Lock()
		f.now.file = failing{f.now.file.(osFile), &fails}
		f.syncing.Unlock()
		r := &Record{UUID: "u", Phase: Decided, Decision: Allow, Reason: "allowed"}
		if err := l.WriteChange(r); !errors.Is(err, errDrive) {
			t.Errorf("the first change got %v", err)
		}
		f.syncing.Lock()
		old := f.now
		f.syncing.Unlock()
		s.writing.Lock()
		f.look(true) // as if it had been rolled
		s.writing.Unlock()
		if err := l.WriteChange(r); !errors.Is(err, errDrive) || !old.doubted {
			t.Errorf("the second change got %v: the rolled file was given up", err)
		}
		if err := l.WriteChange(r); err != nil || old.doubted {
			t.Errorf("the third change got %v", err)
		}
		if err := errors.Join(l.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
}
