package logfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Stdin is the name that stands for standard input.
const Stdin = "-"

// rolledName is what Caddy's writer puts between the stem of a log's name and
// its extension: a time in a form that can be chosen, why it rolled the file,
// and a number where the name was taken.
var rolledName = regexp.MustCompile(`^[^/]*[0-9][^/]*-(?:size|time|initial)(?:_[0-9]+)?$`)

// Rolled finds the files that Caddy's writer has rolled of the log, the oldest
// first, whether the log itself is there or not.
func Rolled(path string) ([]string, error) {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(cmp.Or(dir, "."))
	if err != nil {
		return nil, err
	}
	ext := filepath.Ext(base)
	stem := strings.TrimSuffix(base, ext) + "-"
	var found []rolled
	for _, e := range entries {
		plain := plainName(e.Name())
		middle, ok := strings.CutPrefix(strings.TrimSuffix(plain, ext), stem)
		if !ok || !strings.HasSuffix(plain, ext) || !rolledName.MatchString(middle) || !isFile(dir, e) {
			continue
		}
		if e.Name() != plain && slices.ContainsFunc(entries, func(o fs.DirEntry) bool { return o.Name() == plain && isFile(dir, o) }) {
			continue // it was just compressed: this is not known to be on the disk yet
		}
		found = append(found, newRolled(filepath.Join(dir, e.Name())))
	}
	slices.SortFunc(found, rolled.compare)
	var list []string
	for _, f := range found {
		list = append(list, f.path)
	}
	return list, nil
}

// isFile reports whether there is something to read, at once: whoever opens a
// pipe waits for somebody to write to it. A link that leads nowhere is told of
// when it is to be read.
func isFile(dir string, e fs.DirEntry) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.Type().IsRegular()
	}
	info, err := os.Stat(filepath.Join(dir, e.Name()))
	return err != nil || info.Mode().IsRegular()
}

// rolled is a file with what tells its place among the others. The number of
// its first line is exact, and the time in that line does not depend on how
// times are written in names; names are what is left.
type rolled struct {
	seq  uint64
	ts   string
	path string
}

func (a rolled) compare(b rolled) int {
	return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.ts, b.ts), cmp.Compare(a.path, b.path))
}

func newRolled(path string) rolled {
	f := rolled{path: path}
	source := Source{Name: path}
	r, file, err := source.open()
	if err != nil {
		return f // told when it is to be read
	}
	defer file.Close()
	if r.err != nil {
		return f
	}
	begin := make([]byte, 4<<10)
	n, _ := io.ReadFull(r.from, begin)
	for line := range bytes.Lines(begin[:n]) {
		if rest, ok := bytes.CutPrefix(line, []byte(`{"seq":`)); ok {
			digits, _, _ := bytes.Cut(rest, []byte(","))
			f.seq, _ = strconv.ParseUint(string(digits), 10, 64)
		}
		if _, rest, ok := bytes.Cut(line, []byte(`"ts":"`)); ok {
			ts, _, _ := bytes.Cut(rest, []byte(`"`))
			f.ts = string(ts)
			break
		}
	}
	return f
}

// Source is a file to be read.
type Source struct {
	Name string
	Size int64    // as it is stored; 0 where that is not known
	file *os.File // that is open already
	from io.Reader
}

// rolledBy is a name that the writer gives in its own form of times.
var rolledBy = regexp.MustCompile(`^(.+)-[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}\.[0-9]{3}-(?:size|time|initial)(?:_[0-9]+)?(\.[^.]*)?$`)

// logOf is the log that a file was rolled from, as its name says.
func logOf(path string) (log string, ok bool) {
	dir, base := filepath.Split(plainName(path))
	m := rolledBy.FindStringSubmatch(base)
	if m == nil {
		return path, false
	}
	return dir + m[1] + m[2], true
}

// Log is a log with all files that belong to it.
type Log struct {
	Name  string
	stdin io.Reader
	parts []string // where only some that were rolled from it are asked for
}

// Logs tells which logs are meant by names of files. Stdin stands for stdin. A
// file that was rolled from one of the others is not another log, and several
// that were rolled from one are one.
func Logs(stdin io.Reader, paths ...string) []*Log {
	var list []*Log
	logs := map[string]*Log{}
	for _, path := range paths {
		name, part := logOf(path)
		key := filepath.Clean(name)
		log := logs[key]
		if log == nil {
			log = &Log{Name: name, stdin: stdin, parts: []string{}}
			logs[key] = log
			list = append(list, log)
		}
		switch {
		case !part:
			log.Name, log.parts = path, nil
		case log.parts != nil && !slices.Contains(log.parts, path):
			log.parts = append(log.parts, path)
		}
	}
	return list
}

// Sources lists what belongs to the log, in order: what was rolled from it, and
// then the log itself. They must be read with Scan or closed with Close.
func (l *Log) Sources() ([]Source, error) {
	switch {
	case l.Name == Stdin:
		return []Source{{Name: Stdin, from: l.stdin}}, nil
	case l.parts == nil:
		return sources(l.Name)
	}
	var found []rolled
	for _, path := range l.parts {
		found = append(found, newRolled(path))
	}
	slices.SortFunc(found, rolled.compare)
	var list []Source
	for _, f := range found {
		more, err := sources(f.path)
		if err != nil {
			Close(list)
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

// Sources lists what belongs to the logs of these names, one behind the other.
func Sources(stdin io.Reader, paths ...string) ([]Source, error) {
	var list []Source
	for _, log := range Logs(stdin, paths...) {
		more, err := log.Sources()
		if err != nil {
			Close(list)
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

// sources opens the log before it looks for what was rolled, and looks again
// where the log was rolled meanwhile: else a whole file would be missed.
func sources(path string) ([]Source, error) {
	for {
		file, err := os.Open(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		names, rolledErr := Rolled(path)
		if err == nil && rolledErr == nil && !same(file, path) {
			_ = file.Close()
			continue
		}
		switch {
		case err != nil && (rolledErr != nil || len(names) == 0):
			return nil, fmt.Errorf("%w; nor was anything rolled from it", err)
		case rolledErr != nil:
			names = nil // a folder that may be passed through and not listed
		}
		var list []Source
		for _, name := range names {
			list = append(list, Source{Name: name, Size: size(name)})
		}
		if err == nil {
			list = append(list, Source{Name: path, Size: size(path), file: file})
		}
		return list, nil
	}
}

func same(file *os.File, path string) bool {
	a, errA := file.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}

// Close closes sources that are not read after all.
func Close(list []Source) {
	for _, s := range list {
		if s.file != nil {
			_ = s.file.Close()
		}
	}
}

// open begins to read the source. A file that was compressed since it was
// found has another name now.
func (s *Source) open() (*Reader, io.Closer, error) {
	if s.from != nil {
		return NewReader(s.Name, s.from), io.NopCloser(s.from), nil
	}
	file, err := s.file, error(nil)
	if file == nil {
		for _, ext := range []string{"", ".gz", ".zst"} {
			if file, err = os.Open(s.Name + ext); !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
	}
	if err != nil {
		if p, ok := errors.AsType[*fs.PathError](err); ok {
			err = p.Err // its name is told with it
		}
		return nil, nil, err
	}
	return NewReader(s.Name, file), file, nil
}
