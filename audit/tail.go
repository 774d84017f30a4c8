package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/scopegate/scopegate/audit/logfile"
)

const (
	// tailWindow is how much of a file's end is looked at first, and
	// lostWindow how far back a start looks for exchanges that did not end:
	// more than a gateway writes within the longest exchange.
	tailWindow = 1 << 20
	lostWindow = 64 << 20

	// maxFragments bounds how many lines that are none a start tells of.
	maxFragments = 1000
)

var newline = []byte{'\n'}

// tail is how a log ends.
type tail struct {
	chain  chain
	found  bool // a line of the chain was
	closed bool // the last line, but for a checkpoint, says that the process ended well
	torn   bool // the last line lacks its end
	due    []mark
	last   int // length of the last line of the chain

	open  []exchange          // that were decided and did not end, in their order
	index map[string]struct{} // their ids
}

// exchange is what a record of an exchange says of whose it is.
type exchange struct {
	Gateway    string `json:"gateway"`
	UUID       string `json:"uuid"`
	Phase      Phase  `json:"phase"`
	Team       string `json:"team"`
	Credential string `json:"credential"`
	Change     string `json:"change"`
	Operation  string `json:"operation"`
	Decision   string `json:"decision"`
	TokenID    string `json:"token_id"`
}

// readTail reads how the log of this path ends: in the file itself or, where
// that was just rolled, in those beside it.
func readTail(path string) (tail, error) {
	t, err := readEnd(tailWindow, path)
	if err != nil || t.found && t.closed && !t.torn && len(t.due) == 0 {
		return t, err
	}
	// What did not end stands further up, maybe in a file that was rolled since.
	files, err := recent(path)
	if err != nil {
		return tail{}, err
	}
	if t, err = readEnd(lostWindow, files...); err != nil || t.found {
		return t, err
	}
	if t, err = readEnd(0, files...); err != nil || t.found {
		return t, err
	}
	return t.begin(), nil
}

// recent are the log and those of the files rolled from it that are the end of
// the log together, one at least, the oldest first.
func recent(path string) ([]string, error) {
	files, err := logfile.Rolled(path)
	if err != nil {
		return nil, err
	}
	files = append(files, path)
	from, size := len(files)-1, int64(0)
	for from > 0 && (size < lostWindow || from == len(files)-1) {
		info, err := os.Stat(files[from])
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil {
			size += info.Size()
		}
		from--
	}
	return files[from:], nil
}

// begin is the end of a log that no chain has yet. What stands there was
// written before there were chains: the first line holds the hash of the last.
func (t tail) begin() tail {
	if n := len(t.due); n > 0 && !t.torn {
		var last Hash
		if _, err := hexInto(&last, t.due[n-1].SHA256); err == nil {
			t.chain.head = last
		}
		t.due = nil
	}
	return t
}

// readEnd reads the last so many bytes of each file, all of it for 0. A file
// that is gone is none.
func readEnd(window int64, files ...string) (tail, error) {
	t := tail{index: map[string]struct{}{}}
	var broken error
	for _, path := range files {
		before := t.chain
		err := t.file(path, window)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			broken = fmt.Errorf("%s: %w", path, err)
		case t.chain != before: // what is broken is not the end
			broken = nil
		}
	}
	return t, broken
}

func (t *tail) file(path string, window int64) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if logfile.PackedName(path) {
		unpacked, err := logfile.Unpack(file)
		if err != nil {
			return err
		}
		return t.read(unpacked)
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	from := info.Size() - window
	if window <= 0 || from <= 0 {
		return t.read(file)
	}
	if _, err := file.Seek(from-1, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(file, 64<<10)
	if _, err := readLine(r); err != nil { // part of one
		return err
	}
	return t.read(r)
}

func (t *tail) read(from io.Reader) error {
	r := bufio.NewReaderSize(from, 64<<10)
	for {
		line, err := readLine(r)
		if len(line) > 0 {
			t.line(line)
		}
		if err == io.EOF { //nolint:errorlint // readers return it as it is
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readLine reads a line with its newline, of one that is too long its
// beginning.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) <= logfile.MaxLine {
			line = append(line, part...)
		}
		if err != bufio.ErrBufferFull { //nolint:errorlint // likewise
			return line, err
		}
	}
}

// line takes the next line.
func (t *tail) line(line []byte) {
	text, ended := bytes.CutSuffix(line, newline)
	place, ok := parseStamp(text)
	if ok && !ended {
		// It may be whole but for its newline: then it is a record.
		ok = json.Valid(text) && (!t.found || place.seq == t.chain.seq+1 && place.prev == t.chain.head)
	}
	t.torn = !ended
	if !ok {
		if len(t.due) < maxFragments {
			sum := Hash(sha256.Sum256(text))
			t.due = append(t.due, mark{Kind: Torn, Bytes: len(text), SHA256: sum.String()})
		}
		return
	}
	t.found, t.due, t.last = true, nil, len(text)+len(newline)
	t.chain = chain{place.seq, sha256.Sum256(text)}
	if place.own() {
		t.own(place)
		return
	}
	t.closed = false
	t.follow(text)
}

// own takes a line of the chain's own. A checkpoint stands behind the line
// that says how the process ended, too.
func (t *tail) own(place stamped) {
	m, _ := place.mark()
	if m.Kind == Checkpoint {
		return
	}
	if t.closed = m.Kind == Closed; t.closed {
		t.open, t.index = nil, map[string]struct{}{} // they ended, whatever became of the records of that
	}
}

// follow notes which exchanges are open.
func (t *tail) follow(text []byte) {
	if !bytes.Contains(text, []byte(`"phase":"`)) {
		return
	}
	decided := bytes.Contains(text, []byte(`"phase":"decided"`)) && bytes.Contains(text, []byte(`"decision":"allow"`))
	if !decided && len(t.index) == 0 {
		return
	}
	var e exchange
	if json.Unmarshal(text, &e) != nil || e.UUID == "" {
		return
	}
	if !decided {
		delete(t.index, e.UUID)
		return
	}
	t.index[e.UUID] = struct{}{}
	if len(t.open) > 2*len(t.index)+1024 {
		t.open = t.lost()
	}
	t.open = append(t.open, e)
}

// lost are the exchanges that are still open.
func (t *tail) lost() []exchange {
	var list []exchange
	seen := map[string]bool{}
	for _, e := range t.open {
		if _, open := t.index[e.UUID]; open && !seen[e.UUID] {
			seen[e.UUID] = true
			list = append(list, e)
		}
	}
	return list
}
