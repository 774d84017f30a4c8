package audit_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/audit/logfile"
)

// openPacked opens a log whose rolled files are compressed.
func (p *place) openPacked(t *testing.T, pack audit.Packing, failed func(error)) (l *audit.Log, end func()) {
	t.Helper()
	o := p.options()
	o.Packing, o.Failed = pack, failed
	s, err := audit.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err = audit.New(audit.Options{Gateway: "default", Durable: s})
	if err != nil {
		t.Fatal(err)
	}
	return l, func() {
		if err := errors.Join(l.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	}
}

func (p *place) files(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(p.path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// verified reads the log as `audit verify` does.
func (p *place) verified(t *testing.T) audit.Report {
	t.Helper()
	sources, err := logfile.Sources(nil, p.path)
	if err != nil {
		t.Fatal(err)
	}
	v := audit.NewVerifier(audit.VerifyOptions{})
	if err := v.Scan(t.Context(), sources, nil); err != nil {
		t.Fatal(err)
	}
	return v.Finish()
}

// What was rolled is compressed, by a process before as well, and the chain
// goes on behind it.
func TestRolledFilesArePacked(t *testing.T) {
	for pack, ext := range map[audit.Packing]string{audit.PackGzip: ".gz", audit.PackZstd: ".zst", audit.PackNone: ".jsonl"} {
		t.Run(string(pack), func(t *testing.T) {
			p := newPlace(t)
			synctest.Test(t, func(t *testing.T) {
				p.most = 4000
				_, l, end := p.open(t) // which compresses nothing
				write(t, l, 30)
				end()
				must := func(err error) { t.Error(err) }
				l, end = p.openPacked(t, pack, must)
				for range 30 {
					if err := l.WriteChange(decided()); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				end()
				if err := os.Rename(p.path, rolled(p.path, &p.next)); err != nil {
					t.Fatal(err)
				}
				l, end = p.openPacked(t, pack, must)
				synctest.Wait()
				write(t, l, 1)
				end()
			})
			names := slices.DeleteFunc(p.files(t), func(name string) bool { return !strings.HasPrefix(name, "audit-") })
			if len(names) < 5 || slices.ContainsFunc(names, func(name string) bool { return !strings.HasSuffix(name, ext) }) {
				t.Errorf("files: %q", names)
			}
			if r := p.verified(t); !r.Sound() || r.Records != 61 || r.Segments != 3 || r.Unclosed != 0 || r.Reopened != 0 {
				t.Errorf("report: %+v", r)
			}
		})
	}
}

// What cannot be compressed stays as it is, is told of, and leaves nothing
// behind.
func TestRolledFileStaysWhereItCannotBePacked(t *testing.T) {
	p := newPlace(t)
	_, l, end := p.open(t)
	write(t, l, 3)
	end()
	old := rolled(p.path, &p.next)
	if err := errors.Join(os.Rename(p.path, old), os.Mkdir(old+".gz", 0o700), os.WriteFile(old+".gz/x", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var told []error
		_, end := p.openPacked(t, audit.PackGzip, func(err error) { told = append(told, err) })
		synctest.Wait()
		end()
		if len(told) != 1 || !strings.Contains(told[0].Error(), old) {
			t.Errorf("told: %v", told)
		}
	})
	if names := p.files(t); !slices.Contains(names, filepath.Base(old)) || slices.Contains(names, filepath.Base(old)+".tmp") {
		t.Errorf("files: %q", names)
	}
}

// A compressed file that is damaged keeps a gateway from starting only if it
// has the end of the chain: else a number could be given twice.
func TestStartBehindADamagedFile(t *testing.T) {
	for name, more := range map[string]bool{"before the end": true, "the end": false} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			_, l, end := p.open(t)
			write(t, l, 3)
			end()
			text := read(t, p.path)
			if err := os.WriteFile(rolled(p.path, &p.next)+".gz", []byte("\x1f\x8b"), 0o600); err != nil {
				t.Fatal(err)
			}
			first, rest, _ := bytes.Cut(text, []byte("\n"))
			if !more {
				rest = nil
			}
			rest = bytes.ReplaceAll(rest, []byte("closed"), []byte("closes")) // as if the process had died
			if err := os.WriteFile(p.path, rest, 0o600); err != nil || len(first) == 0 {
				t.Fatal(err)
			}
			s, err := audit.Open(p.options())
			if more {
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), ".jsonl.gz") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Whoever can put links beside the log has nothing read, written or deleted
// through them.
func TestPackingFollowsNoLinks(t *testing.T) {
	p := newPlace(t)
	_, l, end := p.open(t)
	write(t, l, 3)
	end()
	old, kept := rolled(p.path, &p.next), filepath.Join(t.TempDir(), "kept")
	link := rolled(p.path, &p.next)
	if err := errors.Join(os.Rename(p.path, old), os.WriteFile(kept, []byte("kept"), 0o600), os.Symlink(kept, old+".tmp"), os.Symlink(kept, link)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		_, end := p.openPacked(t, audit.PackGzip, func(err error) { t.Error(err) })
		synctest.Wait()
		end()
	})
	if text := read(t, kept); string(text) != "kept" {
		t.Errorf("behind the link is %q", text)
	}
	if names := p.files(t); !slices.Contains(names, filepath.Base(old)+".gz") || !slices.Contains(names, filepath.Base(link)) || slices.Contains(names, filepath.Base(link)+".gz") {
		t.Errorf("files: %q", names)
	}
}
