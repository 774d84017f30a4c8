// Package rig runs gateways for benches: the real binary, as processes of their
// own, before a simulated API. It decides nothing, and measures no more than
// what a process takes.
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	patience   = 60 * time.Second
	buildFlags = "-tags=nobadger,nomysql,nopgx"
)

// Build builds the binary into a folder.
func Build(ctx context.Context, dir string) (binary string, err error) {
	binary = filepath.Join(dir, "scopegate")
	out, err := exec.CommandContext(ctx, "go", "build", buildFlags, "-o", binary, "github.com/scopegate/scopegate/cmd/scopegate").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building the gateway: %w\n%s", err, out)
	}
	return binary, nil
}

func run(ctx context.Context, binary string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = env
	out, err := cmd.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, failed.Stderr)
	}
	return string(out), err
}

// Gateway is a process of the binary.
type Gateway struct {
	Address string // host:port of its site, {$ADDR} in its Caddyfile
	Dir     string // its files; {$DIR}
	File    string // its Caddyfile
	PID     int

	binary string
	env    []string
	cmd    *exec.Cmd
	ended  chan struct{}
	admin  *http.Client
	caller *http.Client
}

// start runs a Caddyfile, which has its admin endpoint at
// unix/{$DIR}/admin.sock and its site at {$ADDR}, and waits until the site
// answers. Each of env is NAME=value.
func start(ctx context.Context, binary, dir, caddyfile string, env ...string) (*Gateway, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		Address: address, Dir: dir, File: filepath.Join(dir, "Caddyfile"), binary: binary,
		caller: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 256}},
	}
	g.admin = &http.Client{Timeout: 2 * patience, Transport: &http.Transport{
		MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "admin.sock"))
		},
	}}
	_, port, _ := net.SplitHostPort(address)
	g.env = append(env, "PATH="+os.Getenv("PATH"), "HOME="+dir, "XDG_DATA_HOME="+dir+"/data", "XDG_CONFIG_HOME="+dir+"/config",
		"DIR="+dir, "ADDR="+address, "PORT="+port)
	if err := os.WriteFile(g.File, []byte(caddyfile), 0o600); err != nil {
		return nil, err
	}
	return g, g.Restart(ctx)
}

// Restart starts the process again, once it has ended.
func (g *Gateway) Restart(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(g.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	g.cmd = exec.Command(g.binary, "run", "--config", g.File, "--adapter", "caddyfile") //nolint:noctx,gosec // ended by Stop or Kill; the binary was built here
	g.cmd.Stderr, g.cmd.Env = log, g.env
	if err := g.cmd.Start(); err != nil {
		return err
	}
	cmd, ended := g.cmd, make(chan struct{})
	g.PID, g.ended = cmd.Process.Pid, ended
	go func() {
		_ = cmd.Wait() // what it has to say is in its log
		close(ended)
	}()
	if err := g.wait(ctx); err != nil {
		g.Kill()
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w; it says:\n%s", err, said)
	}
	return nil
}

// wait waits until the gateway is ready.
func (g *Gateway) wait(ctx context.Context) error {
	late := time.After(patience)
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		if status, err := g.Get(ctx, "", "/_scopegate/readyz"); err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-again.C:
		case <-g.ended:
			return errors.New("the gateway ended")
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("the gateway is not ready at %s", g.Address)
		}
	}
}

// Kill ends the process as a crash would.
func (g *Gateway) Kill() { g.signal(syscall.SIGKILL) }

// Stop ends the process in good order.
func (g *Gateway) Stop() { g.signal(syscall.SIGTERM) }

func (g *Gateway) signal(s os.Signal) {
	_ = g.cmd.Process.Signal(s) // it may have ended
	<-g.ended
	g.admin.CloseIdleConnections()
	g.caller.CloseIdleConnections()
}

// Reload loads the Caddyfile again, though it has not changed.
func (g *Gateway) Reload(ctx context.Context) error {
	text, err := os.ReadFile(g.File)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/load", bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/caddyfile")
	req.Header.Set("Cache-Control", "must-revalidate")
	resp, err := g.admin.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if said, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		return fmt.Errorf("reloading: %s: %s", resp.Status, said)
	}
	return nil
}

// Call asks the admin API, below /scopegate/, and reads its answer where that
// is a success.
func (g *Gateway) Call(ctx context.Context, method, path string, body, answer any) error {
	var in io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost/scopegate/"+path, in)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := g.admin.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, said)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(said, answer)
}

// Get makes a request with a key, or with none, and returns its status.
func (g *Gateway) Get(ctx context.Context, key, path string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.Address+path, http.NoBody)
	if err != nil {
		return 0, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := g.caller.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// GetAgain is Get, but for what Caddy does where it replaces its listener: a
// new connection can end before the gateway ever has a request of it. A read is
// then asked again, once, as proxies and HTTP clients do.
func (g *Gateway) GetAgain(ctx context.Context, key, path string) (status int, again bool, err error) {
	status, err = g.Get(ctx, key, path)
	if again = errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET); again {
		status, err = g.Get(ctx, key, path)
	}
	return status, again, err
}

// Memory is the resident memory of the process, in bytes.
func (g *Gateway) Memory() (int64, error) { return memory(g.PID, "VmRSS") }

// PeakMemory is the most that Memory was since the process started, or since
// ResetPeak.
func (g *Gateway) PeakMemory() (int64, error) { return PeakMemory(g.PID) }

// ResetPeak makes PeakMemory count from now.
func (g *Gateway) ResetPeak() error { return ResetPeak(g.PID) }

var (
	taken   = map[string]bool{}
	takenMu sync.Mutex
)

// freeAddress finds an address that nobody listens on, and never one twice: it
// is used again by a gateway that restarts.
func freeAddress(ctx context.Context) (string, error) {
	takenMu.Lock()
	defer takenMu.Unlock()
	for {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		address := ln.Addr().String()
		if err := ln.Close(); err != nil {
			return "", err
		}
		if !taken[address] {
			taken[address] = true
			return address, nil
		}
	}
}
