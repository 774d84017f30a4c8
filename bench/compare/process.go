package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
)

// process is a contender under way.
type process struct {
	place

	name string
	pid  int
	stop func() // ends it; may be called more than once
}

// start runs a contender and waits until it answers.
func start(ctx context.Context, c contender, p place) (*process, error) {
	if err := os.MkdirAll(p.auditDir(), 0o700); err != nil {
		return nil, err
	}
	cmd, err := c.command(p)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(p.file("log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	one := &process{place: p, name: c.name, pid: cmd.Process.Pid}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // what it has to say is in its log
		close(ended)
	}()
	one.stop = sync.OnceFunc(func() { end(cmd, ended) })
	if err := one.wait(ctx, ended); err != nil {
		one.stop()
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w; it says:\n%s", err, said)
	}
	return one, nil
}

// end asks a process to end, and after a while makes it.
func end(cmd *exec.Cmd, ended <-chan struct{}) {
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
	}
}

// wait waits until the process takes connections.
func (p *process) wait(ctx context.Context, ended <-chan struct{}) error {
	late := time.After(30 * time.Second)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		if conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.address); err == nil {
			return conn.Close()
		}
		select {
		case <-again.C:
		case <-ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("it does not listen on %s", p.address)
		}
	}
}

// watch returns what the process took for something, and the most memory that it
// had meanwhile.
func (p *process) watch(do func() (sample, error)) (s sample, err error) {
	pids, err := rig.Processes(p.pid)
	if err != nil {
		return s, err
	}
	for _, pid := range pids {
		if err := rig.ResetPeak(pid); err != nil {
			return s, err
		}
	}
	before, err := rig.CPUTimes(pids)
	if err != nil {
		return s, err
	}
	if s, err = do(); err != nil {
		return s, err
	}
	after, err := rig.CPUTimes(pids)
	if err != nil {
		return s, err
	}
	s.CPU = after - before
	for _, pid := range pids {
		memory, err := rig.PeakMemory(pid)
		if err != nil {
			return s, err
		}
		s.Memory += memory
	}
	return s, nil
}

// freeAddress finds an address that nobody listens on at the moment.
func freeAddress(ctx context.Context) (string, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
