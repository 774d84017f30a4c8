package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/scopegate/scopegate/audit/logfile"
)

// Durability says which records must be on the disk, and not only with the
// system, before their callers go on.
type Durability string

// The durabilities.
const (
	Changes Durability = "changes" // those of changes
	Full    Durability = "full"    // all
)

const (
	// DefaultRecords is after how many lines there is a checkpoint.
	DefaultRecords = 1000
	// DefaultEvery is how often there is one, while there are new lines.
	DefaultEvery = 10 * time.Second

	// lookAfter is after how many bytes it is seen whether the file was
	// rolled: less than the smallest file that is, so that no roll is missed.
	lookAfter = 256 << 10

	// watchEvery is how often the file is looked at without a reason.
	watchEvery = time.Second

	// diskPatience bounds how long a record waits to be on the disk. A disk
	// that hangs must answer like one that fails.
	diskPatience = 5 * time.Second

	// lockPatience is how long a start waits for the process before it to end.
	lockPatience = 5 * time.Second
)

// ErrInUse says that another process writes to the log.
var ErrInUse = errors.New("another process writes to it: each process, each replica of a fleet too, needs a file of its own")

var errSlowDisk = fmt.Errorf("the disk did not take the record within %s", diskPatience)

// FileOptions says how a log in a file is kept.
type FileOptions struct {
	// Path is the file's.
	Path string

	// Open opens the file to append to it. It is opened again where it was
	// deleted or replaced.
	Open func() (io.WriteCloser, error)

	// Keys sign the checkpoints. Required.
	Keys *Keys

	// A checkpoint is written after so many lines and, while there are new
	// ones, as often.
	Records int
	Every   time.Duration

	Durability Durability

	// Packing is how rolled files are compressed; "" is not at all. Failed,
	// required with it, is told where that fails: it is tried again with the
	// next one.
	Packing Packing
	Failed  func(error)
}

// file is a log's file as the sink sees it. Caddy's writer, which rolls it,
// does not show the file that it has open, so that it is opened once more.
type file struct {
	path   string
	reopen func() (io.WriteCloser, error)
	writer io.WriteCloser
	lock   *os.File
	mode   Durability
	unseen int // bytes since it was last looked at

	device  bool // no file, such as /dev/null or a pipe: nothing to go on from, or to keep
	syncing sync.Mutex

	mu   sync.Mutex
	now  *part
	info os.FileInfo
	size int64   // when it was last looked at
	old  []*part // rolled, and not yet synced
	made bool    // the folder has a new file in it

	next *round // of those who wait for the disk
	kick chan struct{}
	stop chan struct{}
	work sync.WaitGroup

	rolls chan struct{} // says that there is something to compress
}

// round is one wait for the disk, shared by all who came before it began.
type round struct {
	done chan struct{}
	err  error
}

// Open opens a log in a file, goes on where its chain ends, and says in it what
// the process before left undone. Close ends it.
func Open(o FileOptions) (*Sink, error) {
	f := &file{path: o.Path, reopen: o.Open, mode: o.Durability, kick: make(chan struct{}, 1), stop: make(chan struct{}), rolls: make(chan struct{}, 1)}
	var err error
	if f.writer, err = o.Open(); err != nil {
		return nil, err
	}
	s := &Sink{w: f.writer, file: f, keys: o.Keys, every: uint64(o.Records)}
	if err := s.resume(); err != nil {
		return nil, errors.Join(err, f.close(), s.reserve.close())
	}
	f.work.Go(f.sync)
	f.work.Go(func() { s.watch(o.Every) })
	if o.Packing != "" && o.Packing != PackNone && !f.device {
		f.work.Go(func() { f.pack(o.Packing, o.Failed) })
	}
	return s, nil
}

// resume finds the end of the log and writes what a start has to say.
func (s *Sink) resume() error {
	f := s.file
	if !f.look(false) {
		return fmt.Errorf("looking at %s: it is not where it was made", f.path)
	}
	if f.device {
		return s.start(tail{})
	}
	if err := f.acquire(); err != nil {
		return fmt.Errorf("opening %s: %w", f.path, err)
	}
	end, err := readTail(f.path)
	if err != nil {
		return fmt.Errorf("reading how %s ends: %w", f.path, err)
	}
	s.chain, s.torn, s.due, s.last = end.chain, end.torn, end.due, end.last
	// Without a reserve a gateway runs, and cannot take rights away while the
	// disk is full; the watch tries again to make one.
	s.reserve, _ = openReserve(f.path+".reserve", &s.chain)
	return s.start(end)
}

// start writes the first lines of a process.
func (s *Sink) start(end tail) error {
	k := s.keys
	if len(k.older) > 0 {
		signed, err := k.vouch()
		if err != nil {
			return err
		}
		s.due = append(s.due, mark{Kind: KeyChange, Log: k.origin, Key: k.public, Signed: signed})
	}
	s.due = append(s.due, mark{Kind: Segment, Log: k.origin, Key: k.public})
	b := &batch{}
	b.done.Add(1)
	for _, e := range end.lost() {
		b.lines = append(b.lines, e.line()...)
		b.entries = append(b.entries, entry{end: len(b.lines)})
	}
	b.entries = append(b.entries, entry{end: len(b.lines), sign: true})
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.send(b); err != nil {
		return fmt.Errorf("writing the first line of the process: %w", err)
	}
	return s.file.flush()
}

// line says of an exchange that its process died before it ended.
func (e exchange) line() []byte {
	b, err := json.Marshal(struct {
		Time       time.Time `json:"ts"`
		Msg        string    `json:"msg"`
		Gateway    string    `json:"gateway,omitempty"`
		UUID       string    `json:"uuid"`
		Phase      Phase     `json:"phase"`
		Team       string    `json:"team,omitempty"`
		Credential string    `json:"credential,omitempty"`
		Change     string    `json:"change,omitempty"`
		Operation  string    `json:"operation,omitempty"`
		TokenID    string    `json:"token_id,omitempty"`
	}{time.Now().UTC(), message, e.Gateway, e.UUID, Lost, e.Team, e.Credential, e.Change, e.Operation, e.TokenID})
	if err != nil {
		panic(err) // texts alone
	}
	return append(b, '\n')
}

// Close says that the process ends, signs what there is, waits for a bounded
// time until the anchors have it, and closes the file.
func (s *Sink) Close() error {
	f := s.file
	close(f.stop)
	f.work.Wait()
	_, err := s.append(mark{Kind: Closed}.line(), entry{})
	_, signErr := s.append(nil, entry{sign: true})
	err = errors.Join(err, signErr, f.flush())
	s.closeAnchors()
	return errors.Join(err, f.close(), s.reserve.close())
}

// Log is the log's name, and Key the public key that its checkpoints are signed
// with.
func (s *Sink) Log() string { return s.keys.Log() }

// Keys are those of the log.
func (s *Sink) Keys() *Keys { return s.keys }

func (f *file) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.writer.Close()
	for _, p := range append(f.old, f.now) {
		if p != nil {
			err = errors.Join(err, p.file.Close())
		}
	}
	if f.lock != nil {
		err = errors.Join(err, f.lock.Close())
	}
	return err
}

// acquire makes sure that this process alone writes to the log. Two chains in
// one file would be none. The lock is on a file beside it, since the log itself
// is rolled; it ends with the process.
func (f *file) acquire() error {
	lock, err := os.OpenFile(f.path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	f.lock = lock
	deadline := time.Now().Add(lockPatience)
	for tryLock(lock) != nil {
		if time.Now().After(deadline) {
			return ErrInUse
		}
		time.Sleep(lockPatience / 100)
	}
	return nil
}

// look takes the file that the path names for the log's; written says that the
// log has written to it already. It reports whether there is one.
func (f *file) look(written bool) bool {
	info, err := os.Stat(f.path)
	if err != nil {
		return false
	}
	if f.device = !info.Mode().IsRegular(); f.device {
		return true // not opened: whoever has a pipe open to read it makes it one that can be written
	}
	now, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	if info, err = now.Stat(); err != nil {
		return errors.Join(err, now.Close()) == nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now != nil {
		f.old = append(f.old, f.now)
	}
	select {
	case f.rolls <- struct{}{}:
	default:
	}
	f.now, f.info, f.size, f.made, f.unseen = &part{file: osFile{now}}, info, info.Size(), true, 0
	if !written {
		f.now.durable = info.Size()
	}
	return true
}

// holds reports whether the path still names the file that the log is in, and
// whether that still has all of it.
func (f *file) holds() bool {
	info, err := os.Stat(f.path)
	if err != nil || !os.SameFile(info, f.info) || info.Size() < f.size+int64(f.unseen) || f.hollow() {
		return false
	}
	f.size, f.unseen = info.Size(), 0
	return true
}

// hollow reports whether what was last seen at the end of the file is gone. The
// writer goes on where it was in a file that was cut, as `copytruncate` does
// it, which leaves as many zeros there as it had bytes.
func (f *file) hollow() bool {
	if f.size == 0 {
		return false
	}
	last := []byte{0}
	_, err := f.now.file.ReadAt(last, f.size-1)
	return err != nil || last[0] == 0
}

// ends reports whether the file that the path names is another one and ends in
// the last line of the chain: then it was rolled, not replaced.
func (f *file) ends(s *Sink) bool {
	now, err := os.Open(f.path)
	if err != nil {
		return false
	}
	defer now.Close()
	info, err := now.Stat()
	if err != nil || s.last == 0 || info.Size() < int64(s.last) || os.SameFile(info, f.info) {
		return false
	}
	line := make([]byte, s.last)
	if _, err := now.ReadAt(line, info.Size()-int64(s.last)); err != nil {
		return false
	}
	return hashOf(line[:len(line)-1]) == s.chain.head
}

// rolled reports whether the file that the log was in is one of those that were
// rolled from it and the new one is yet empty: the writer's clock rolled it.
func (f *file) rolled() bool {
	info, err := os.Stat(f.path)
	if err != nil || info.Size() > 0 {
		return false
	}
	names, err := logfile.Rolled(f.path)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(names, func(name string) bool {
		info, err := os.Stat(name)
		return err == nil && os.SameFile(info, f.info)
	})
}

// expect sees that what is written next gets into the file that the path
// names. Whoever deletes or replaces the log would else have changes recorded
// in a file that nobody finds.
func (f *file) expect(s *Sink) {
	if f.device || f.holds() {
		return
	}
	if f.ends(s) {
		f.look(true)
		return
	}
	rolled := f.rolled()
	writer, err := f.reopen()
	if err != nil {
		s.w = broken{err}
		return
	}
	// The one before is of a file that nobody finds. Even where it rolled the
	// log: somebody else may have given the file that name, and made another.
	_ = f.writer.Close()
	f.writer, s.w = writer, writer
	f.look(false)
	s.torn = false
	if rolled {
		return
	}
	s.due = append(s.due, mark{Kind: Reopened})
	s.each(func(l *Log) { l.events.AuditReopened() })
}

// broken is the writer of a file that cannot be opened.
type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

// wrote sees, now and then and behind every change, whether the writer rolled
// the file: what is in the old one must be on the disk, too.
func (f *file) wrote(s *Sink, n int, changes bool) {
	f.unseen += n
	if f.device || !changes && f.unseen < lookAfter || f.holds() || !f.ends(s) {
		return
	}
	f.look(true)
	f.wake()
}

// flush puts all that was written onto the disk. What that fails for is tried
// again by the next: until then nothing counts as being there.
func (f *file) flush() error {
	if f.device {
		return nil
	}
	f.syncing.Lock()
	defer f.syncing.Unlock()
	f.mu.Lock()
	now, old, made := f.now, f.old, f.made
	f.old, f.made = nil, false
	f.mu.Unlock()
	var errs []error
	var left []*part
	for _, o := range old {
		if err := o.sync(); err != nil {
			errs, left = append(errs, err), append(left, o)
			continue
		}
		errs = append(errs, o.file.Close())
	}
	errs = append(errs, now.sync())
	if made {
		err := syncDir(filepath.Dir(f.path))
		errs, made = append(errs, err), err != nil
	}
	f.mu.Lock()
	f.old, f.made = append(left, f.old...), f.made || made
	f.mu.Unlock()
	return errors.Join(errs...)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, fs.ErrInvalid) || errors.Is(err, errors.ErrUnsupported) {
		err = nil // a system that has no such thing
	}
	return errors.Join(err, dir.Close())
}

// wait waits until all that was written before is on the disk, together with
// whoever else waits.
func (f *file) wait() error {
	f.mu.Lock()
	r := f.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		f.next = r
	}
	f.mu.Unlock()
	f.wake()
	timer := time.NewTimer(diskPatience)
	defer timer.Stop()
	select {
	case <-r.done:
		return r.err
	case <-timer.C:
		return errSlowDisk
	case <-f.stop:
		return f.flush() // nobody else does any more
	}
}

func (f *file) wake() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// sync works for those who wait, and closes files that were rolled.
func (f *file) sync() {
	for {
		select {
		case <-f.stop:
			return
		case <-f.kick:
		}
		f.mu.Lock()
		r := f.next
		f.next = nil
		f.mu.Unlock()
		err := f.flush()
		if r != nil {
			r.err = err
			close(r.done)
		}
	}
}

// watch looks after the log while nothing else does.
func (s *Sink) watch(every time.Duration) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-s.file.stop:
			return
		case now := <-tick.C:
			if s.needsLine(now.Sub(last) >= every) {
				_, _ = s.append(nil, entry{sign: true})
			}
			if now.Sub(last) >= every {
				last = now
			}
		}
	}
}

// needsLine looks after the file, and reports whether something is to be
// written by the watch itself.
func (s *Sink) needsLine(due bool) bool {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.file.expect(s)
	if s.reserve == nil && !s.file.device {
		s.reserve, _ = openReserve(s.file.path+".reserve", &s.chain)
	}
	return len(s.due) > 0 || len(s.reserve.waiting()) > 0 || due && s.chain.seq > s.signed
}
