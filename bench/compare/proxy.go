package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
)

// proxy is a contender under way, as a process of its own.
type proxy struct {
	contender
	dir     string // its Caddyfile, socket, log and files
	address string
	pid     int
	stop    func() // ends it; may be called more than once
}

// start runs a contender and waits until it answers.
func start(ctx context.Context, c contender, binary, dir, upstream string) (*proxy, error) {
	p := &proxy{contender: c, dir: dir}
	if err := os.MkdirAll(p.auditDir(), 0o700); err != nil {
		return nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	p.address = net.JoinHostPort("127.0.0.1", port)
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(c.caddyfile), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()

	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, binary, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stderr = log
	cmd.Env = append(os.Environ(), append(c.env,
		"HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir,
		"PORT="+port, "UPSTREAM="+upstream, "ADMIN="+p.admin(),
		"AUDIT="+filepath.Join(p.auditDir(), "audit.jsonl"))...)
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // what it has to say is in its log
		close(ended)
	}()
	p.pid = cmd.Process.Pid
	p.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	if err := p.wait(ctx, ended); err != nil {
		p.stop()
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w; it says:\n%s", err, said)
	}
	return p, nil
}

func (p *proxy) admin() string    { return filepath.Join(p.dir, "admin.sock") }
func (p *proxy) auditDir() string { return filepath.Join(p.dir, "audit") }

// wait waits until the proxy answers at all.
func (p *proxy) wait(ctx context.Context, ended <-chan struct{}) error {
	late := time.After(30 * time.Second)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		if conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.address); err == nil {
			return conn.Close()
		}
		select {
		case <-again.C:
		case <-ended:
			return fmt.Errorf("it ended")
		case <-late:
			return fmt.Errorf("it does not listen on %s", p.address)
		}
	}
}

// unidentified makes one request without a key and returns the status of its
// answer.
func (p *proxy) unidentified(ctx context.Context) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// measure puts the proxy under the load of a job. The time that it takes to
// accept the connections is part of it.
func (p *proxy) measure(ctx context.Context, j job) (sample, error) {
	before, err := rig.CPUTime(p.pid)
	if err != nil {
		return sample{}, err
	}
	s, err := load(ctx, j)
	if err != nil {
		return s, err
	}
	after, err := rig.CPUTime(p.pid)
	s.CPU = after - before
	return s, err
}

// freePort finds a port that nobody listens on at the moment.
func freePort(ctx context.Context) (string, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port), nil //nolint:forcetypeassert // of a TCP listener
}
