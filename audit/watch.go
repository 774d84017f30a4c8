package audit

import (
	"errors"
	"os"
	"slices"
	"time"

	"github.com/scopegate/scopegate/audit/logfile"
)

const (
	// lookAfter is after how many bytes it is seen whether the file was
	// rolled: less than the smallest file that is, so that no roll is missed.
	lookAfter = 256 << 10

	// watchEvery is how often the file is looked at without a reason.
	watchEvery = time.Second
)

// look takes the file that the path names for the log's; written says that the
// log has written to it already. It reports whether there is one.
func (f *file) look(written bool) bool {
	info, err := os.Stat(f.path)
	if err != nil {
		return false
	}
	if !info.Mode().IsRegular() {
		f.device = f.info == nil // from the start on, or not at all
		return f.device          // not opened: whoever has a pipe open to read it makes it one that can be written
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
	s.w = f.writer
	if f.device || f.holds() {
		return
	}
	if info, err := os.Stat(f.path); err == nil && !info.Mode().IsRegular() {
		s.w = broken{errNoFile}
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

// errNoFile is of a log in whose place somebody has put what keeps nothing, such
// as a link to /dev/null.
var errNoFile = errors.New("what bears the name of the audit log is a file no more")

// errStrayed is of lines that went into a file which somebody moved or deleted
// just before.
var errStrayed = errors.New("the audit log was moved while it was written")

// broken is the writer of a file that cannot be opened.
type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

// wrote sees, now and then and behind all that is pledged, whether the writer
// rolled the file: what is in the old one must be on the disk, too. It reports
// whether what was written is where a reader finds it, and not in a file that
// was moved between the look before it and the write.
func (f *file) wrote(s *Sink, n int, pledged bool) (found bool) {
	f.unseen += n
	switch {
	case f.device || !pledged && f.unseen < lookAfter || f.holds():
		return true
	case f.ends(s):
		if !f.look(true) {
			return false
		}
		f.wake()
		return true
	}
	return f.rolled() // by the writer's clock, just behind the write
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
	switch {
	case s.file.device:
	case s.reserve == nil:
		s.reserve, _ = openReserve(s.file.path+".reserve", &s.chain)
	default:
		_ = s.reserve.renew() // tried again with the next look
	}
	return len(s.due) > 0 || len(s.reserve.waiting()) > 0 || due && s.chain.seq > s.signed
}
