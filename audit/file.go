package audit

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
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

	// lockPatience is how long a start waits for the process before it to end.
	lockPatience = 5 * time.Second
)

// ErrInUse says that another process writes to the log.
var ErrInUse = errors.New("another process writes to it: each process, each replica of a fleet too, needs a file of its own")

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

	// Packing is how rolled files are compressed; "" is not at all.
	Packing Packing

	// Failed is told what the log has to do without: of a file that could not
	// be compressed, until the next one, and of a reserve that could not be
	// made. It may be nil.
	Failed func(error)
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

// Open opens a log in a file, goes on where its chain ends, and says in it what
// the process before left undone. Close ends it.
func Open(o FileOptions) (*Sink, error) {
	f := &file{path: o.Path, reopen: o.Open, mode: o.Durability, kick: make(chan struct{}, 1), stop: make(chan struct{}), rolls: make(chan struct{}, 1)}
	var err error
	if f.writer, err = o.Open(); err != nil {
		return nil, err
	}
	s := &Sink{w: f.writer, file: f, keys: o.Keys, every: uint64(o.Records)}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	if err := s.resume(o.Failed); err != nil {
		return nil, errors.Join(err, f.close(), s.reserve.close())
	}
	f.work.Go(f.sync)
	f.work.Go(func() { s.watch(o.Every) })
	if o.Packing != "" && o.Packing != PackNone && !f.device {
		f.work.Go(func() { f.pack(o.Packing, o.Failed) })
	}
	return s, nil
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

// Log is the log's name.
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
	for {
		err := tryLock(lock)
		if !errors.Is(err, ErrInUse) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(lockPatience / 100)
	}
}
