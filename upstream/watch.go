package upstream

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

const (
	// settle is the wait between a change in the token's directory and the
	// look at it, so that a file is not read while it is being written.
	settle = 100 * time.Millisecond

	// pollEvery is how often the file is read whatever was noticed: links
	// that lead out of the directory, network mounts and a directory made
	// anew go unnoticed.
	pollEvery = 15 * time.Second
)

// master is the master token as it is now.
type master struct {
	source    source
	userAgent string
	logger    *zap.Logger
	loaded    func(time.Time)
	current   atomic.Pointer[token]
	complaint string // the last failure that was logged, so that it is logged once
}

// load reads the source and, where it holds another token than the current
// one, puts that in its place. Where it holds none, the current one stays:
// an empty file is a rotation half done, not a wish to stop.
func (m *master) load() error {
	text, err := m.source.read()
	var t *token
	if err == nil {
		t, err = newToken(text, m.userAgent)
	}
	if err != nil {
		return fmt.Errorf("upstream: loading the master token from %s: %w", m.source, err)
	}
	if old := m.current.Load(); old != nil && old.forms().bearer == t.forms().bearer {
		return nil
	}
	m.current.Store(t)
	m.loaded(time.Now())
	m.logger.Info("master token loaded", zap.Stringer("source", m.source))
	return nil
}

// reload loads again and logs what went wrong, once for as long as it does.
func (m *master) reload() {
	err := m.load()
	if err == nil {
		m.complaint = ""
		return
	}
	if err.Error() != m.complaint {
		m.complaint = err.Error()
		m.logger.Error("the master token was not loaded anew; the one before stays in use", zap.Error(err))
	}
}

// follow watches the token's file until the returned function is called, which
// waits for the watch to end.
func (m *master) follow() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		poll := time.NewTicker(pollEvery)
		defer poll.Stop()
		m.watch(ctx, poll.C)
	}()
	return func() {
		cancel()
		<-done
	}
}

// watch follows the token's file until the context ends. It watches the
// directory and not the file, since a file that is replaced, or whose link
// is, takes a watch of its own with it.
func (m *master) watch(ctx context.Context, poll <-chan time.Time) {
	var events <-chan fsnotify.Event
	var overflows <-chan error
	w, err := fsnotify.NewWatcher()
	if err == nil {
		defer w.Close()
		events, overflows = w.Events, w.Errors
		err = w.Add(filepath.Dir(m.source.path))
	}
	if err != nil {
		m.logger.Warn("the master token's directory cannot be watched; its file is read now and then instead",
			zap.Duration("every", pollEvery), zap.Error(err))
	}
	m.reload() // what changed before the watch began
	var quiet <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
			quiet = time.After(settle)
		case <-overflows: //nolint:errcheck // an overflow, whatever its words
			quiet = time.After(settle)
		case <-quiet:
			quiet = nil
			m.reload()
		case <-poll:
			m.reload()
		}
	}
}
