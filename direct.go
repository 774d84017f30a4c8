package scopegate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/fleet"
	"github.com/scopegate/scopegate/store"
)

// direct does what the admin API does on a gateway's store itself, for a
// configuration that turns the admin endpoint off. A gateway that runs reads
// the change from its store, as it does those of other replicas.
//
// Each request opens the store and closes it again, so that nothing is held
// open between the questions of a command that waits for an answer.
type direct struct{ *Gateway }

// newDirect checks what the configuration says, without any I/O.
func newDirect(g *Gateway) (*direct, error) {
	var err error
	if g.rules, err = g.compile(); err != nil {
		return nil, err
	}
	return &direct{g}, nil
}

// RoundTrip answers a request of the admin API.
func (d *direct) RoundTrip(r *http.Request) (*http.Response, error) {
	s, err := d.open(r.Context())
	if err != nil {
		return nil, err
	}
	api := adminAPI{
		names: func() []string { return []string{d.Name} },
		find:  func(name string) (office, bool) { return s, name == d.Name },
	}
	mux := http.NewServeMux()
	for _, route := range api.routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			_ = route.Handler.ServeHTTP(w, r) // it answers its failures itself
		})
	}
	w := &answered{header: http.Header{}, status: http.StatusOK}
	mux.ServeHTTP(w, r)
	if err := s.close(); err != nil {
		return nil, err
	}
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Header: w.header,
		Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

// answered is an answer that is kept.
type answered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answered) Header() http.Header         { return a.header }
func (a *answered) WriteHeader(status int)      { a.status = status }
func (a *answered) Write(p []byte) (int, error) { return a.body.Write(p) }

// stockroom is an open store with a log for what is done to it, and no gateway.
type stockroom struct {
	rules *compiled
	rows  rows
	log   *audit.Log
	sink  *audit.Sink
}

// open opens the store and the commands' own audit log. It makes no store: one
// that is not where it is looked for is elsewhere, and one made by another user
// than the gateway's would keep the gateway from starting.
func (d *direct) open(ctx context.Context) (*stockroom, error) {
	conf, err := d.resolveStore()
	switch {
	case err != nil:
		return nil, fmt.Errorf("store: %w", err)
	case conf.Driver == storeNone:
		return nil, problemOf(errNoStore)
	}
	if conf.Driver == storeSQLite {
		if _, err := os.Stat(conf.Path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("store: there is no %s; a gateway makes it when it first starts, and its default depends on the user and on XDG_DATA_HOME", conf.Path)
		}
	}
	name, err := d.commandLog()
	if err != nil {
		return nil, err
	}
	s := &stockroom{rules: d.rules}
	if s.sink, err = d.openCommandLog(name); err != nil {
		return nil, fmt.Errorf("opening the audit log of commands: %w", err)
	}
	if s.log, err = audit.New(audit.Options{Gateway: d.Name, Durable: s.sink}); err != nil {
		return nil, errors.Join(err, s.sink.Close())
	}
	if s.rows, err = conf.open(ctx, d.Name); err != nil {
		return nil, errors.Join(fmt.Errorf("store: %w", err), s.close())
	}
	return s, nil
}

func (s *stockroom) close() error {
	var err error
	if s.rows != nil {
		err = s.rows.Close()
	}
	return errors.Join(err, s.log.Close(), s.sink.Close())
}

// commandLog is a file beside the gateway's own audit log, which the gateway
// rolls: two processes that write to it would lose each other's records.
func (d *direct) commandLog() (string, error) {
	path, err := d.auditFile()
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(path, filepath.Ext(path)) + ".cli.jsonl", nil
}

// openCommandLog opens it with a key of its own: it is a log of its own, which
// another user may write.
func (d *direct) openCommandLog(name string) (*audit.Sink, error) {
	keys, err := (*Audit)(nil).firstKeys(name)
	if err != nil {
		return nil, err
	}
	return d.Audit.openSink(name, keys, func() (io.WriteCloser, error) {
		return os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	}, audit.PackNone)
}

func (s *stockroom) compiled() *compiled { return s.rules }

func (s *stockroom) registry(record func(credential.Change) error) *credential.Registry {
	return credential.NewRegistry(s.rows, s.rules.static, s.rules.lives, record, time.Now)
}

func (s *stockroom) read(do func(*credential.Registry) error) error { return do(s.registry(nil)) }

// change makes one change of a credential, recorded before it is made.
func (s *stockroom) change(do func(*credential.Registry) (store.Credential, error)) (store.Credential, error) {
	// Nothing of it is in this process's memory.
	return recorded(s.log, s.registry, do, func(credential.Change, error) {})
}

func (s *stockroom) replicas(ctx context.Context) ([]store.Replica, time.Time, error) {
	return s.rows.Replicas(ctx)
}

// wait is for a member of the fleet, which this process is not: it would count
// as a replica, and take its share of the limits.
func (s *stockroom) wait(context.Context, int64, func(fleet.Report)) (fleet.Report, error) {
	return fleet.Report{}, errNotRunning
}

// Interface guards.
var (
	_ office            = (*stockroom)(nil)
	_ http.RoundTripper = (*direct)(nil)
)
