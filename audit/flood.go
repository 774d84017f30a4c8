package audit

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// window is the time that the budgets below are for.
	window = time.Second

	// perPrefix is how many records one client prefix gets in a window: enough
	// to show a client that is set up wrong, with its address and reason.
	perPrefix = 3

	// perWindow is how many all prefixes get together. A botnet, or whoever
	// holds an IPv6 /32, has prefixes without number: this is what bounds the
	// disk, 11 lines a second of some 300 bytes.
	perWindow = 10

	// maxPrefixes bounds the table. Further prefixes share one place in it.
	maxPrefixes = 1024
)

// flood shares out how many failed identifications are recorded, and counts
// the rest. A window begins with the first attempt and ends by a timer, not by
// the next attempt: the last summary of a flood is written too.
type flood struct {
	// write writes a summary. It is called without the lock, so that a slow
	// disk does not hold up those who are only counted.
	write func(suppressed, prefixes int) error

	mu         sync.Mutex
	prefixes   map[netip.Prefix]tally
	recorded   int // in this window, over all prefixes
	sources    int // in this window, prefixes of which some were suppressed
	suppressed int // since the last summary that was written
	carried    int // the most sources of a window whose summary was not written
	timer      *time.Timer
	open       bool // a window runs or is being summed up
	closed     bool

	ending sync.WaitGroup // the open window
}

// tally is what one prefix did in this window.
type tally struct {
	recorded   int
	suppressed bool
}

func newFlood(write func(suppressed, prefixes int) error) *flood {
	return &flood{write: write, prefixes: make(map[netip.Prefix]tally, maxPrefixes+1)}
}

// admit reports whether a record of this client may be written; if not, it is
// counted. Once closed it counts nothing, since nobody would sum it up.
func (f *flood) admit(client netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return true
	}
	f.begin()
	prefix := prefixOf(client)
	t, known := f.prefixes[prefix]
	if !known && len(f.prefixes) >= maxPrefixes {
		prefix = netip.Prefix{}
		t = f.prefixes[prefix]
	}
	admitted := t.recorded < perPrefix && f.recorded < perWindow
	if admitted {
		t.recorded++
		f.recorded++
	} else {
		f.suppressed++
		if !t.suppressed {
			t.suppressed = true
			f.sources++
		}
	}
	f.prefixes[prefix] = t
	return admitted
}

// prefixOf returns what one party can be taken to hold: an IPv4 /24, an IPv6
// /64. Addresses that could not be read share the zero prefix.
func prefixOf(client netip.Addr) netip.Prefix {
	client = client.Unmap()
	bits := 64
	if client.Is4() {
		bits = 24
	}
	prefix, err := client.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// begin starts a window unless one runs. The caller holds the lock.
func (f *flood) begin() {
	if f.open || f.closed {
		return
	}
	f.open = true
	f.ending.Add(1)
	f.timer = time.AfterFunc(window, func() {
		defer f.ending.Done()
		_ = f.sumUp() // seen by the log's Events, and tried again in a second
	})
}

// sumUp ends the window and writes its summary. What could not be written goes
// into the next one: a full disk must not hide how many came meanwhile. The
// window stays open until then, so that behind a disk that hangs there waits
// one summary and not one for every second.
func (f *flood) sumUp() error {
	f.mu.Lock()
	suppressed, sources := f.suppressed, max(f.sources, f.carried)
	f.recorded, f.suppressed, f.sources, f.carried = 0, 0, 0, 0
	clear(f.prefixes)
	f.mu.Unlock()

	var err error
	if suppressed > 0 {
		err = f.write(suppressed, sources)
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	f.open = false
	if err != nil {
		f.suppressed += suppressed
		f.carried = sources
	}
	if f.suppressed > 0 {
		f.begin()
	}
	return err
}

// close writes what is still to be summed up. No window begins any more.
func (f *flood) close() error {
	f.mu.Lock()
	f.closed = true
	if f.open && f.timer.Stop() {
		f.ending.Done()
	}
	f.mu.Unlock()
	f.ending.Wait()
	return f.sumUp()
}
