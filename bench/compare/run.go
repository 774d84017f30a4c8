package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/scopegate/scopegate/credential"
)

// run measures all rounds. Whatever it started has ended when it returns.
func run(ctx context.Context, s settings) (_ result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dir, err := os.MkdirTemp("", "scopegate-compare-")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)

	say("building ./cmd/scopegate")
	binary := filepath.Join(dir, "bin")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/scopegate/scopegate/cmd/scopegate")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return result{}, fmt.Errorf("building the gateway: %w", err)
	}

	upstream, end, err := startUpstream(ctx)
	if err != nil {
		return result{}, err
	}
	defer end()
	key := credential.Generate()
	var proxies [2]*proxy
	for i, c := range []contender{bare, full(key)} {
		p, err := start(ctx, c, binary, filepath.Join(dir, c.name), upstream)
		if err != nil {
			return result{}, fmt.Errorf("starting %s: %w", c.name, err)
		}
		defer p.stop()
		proxies[i] = p
	}
	gateway := proxies[1]
	if status, err := gateway.unidentified(ctx); err != nil || status != http.StatusUnauthorized {
		return result{}, fmt.Errorf("the gateway answers a request without a key with %d, not 401 (%w)", status, err)
	}

	total := 0
	turn := func(i int, length time.Duration) (sample, error) {
		p := proxies[i]
		m, err := p.measure(ctx, job{
			Address: p.address, Request: request(p.address, key.Reveal()), Want: []byte(member),
			Conns: s.conns, Length: length,
		})
		if err != nil {
			return m, fmt.Errorf("measuring %s: %w", p.name, err)
		}
		if p == gateway {
			total += len(m.Took)
		}
		return m, nil
	}
	say("warming up")
	for i := range proxies {
		if _, err := turn(i, s.length/3); err != nil {
			return result{}, err
		}
	}
	rounds := make([]round, s.rounds)
	for i := range rounds {
		samples, err := takeTurns(s.length, turn)
		if err != nil {
			return result{}, err
		}
		rounds[i] = round{Bare: samples[0].measurement(), Gateway: samples[1].measurement()}
		say("round %d of %d: %v", i+1, s.rounds, rounds[i])
	}

	gateway.stop()
	records, err := audited(gateway.auditDir())
	if err != nil {
		return result{}, fmt.Errorf("counting audit records: %w", err)
	}
	if want := 2*total + 1; records != want { // and the refusal
		return result{}, fmt.Errorf("the audit log holds %d records after %d requests, want %d", records, total, want)
	}
	return judge(conditions(binary, s), rounds), nil
}

// takeTurns measures both proxies for a length of time each, in turns of at most
// a second: forth and back, so that none always comes first. On a machine that others
// use, who is measured later may meet another machine.
func takeTurns(length time.Duration, turn func(i int, length time.Duration) (sample, error)) (sums [2]sample, err error) {
	order := [2]int{0, 1}
	for ; length > 0; length -= time.Second {
		for _, i := range order {
			s, err := turn(i, min(length, time.Second))
			if err != nil {
				return sums, err
			}
			sums[i].add(s)
		}
		order[0], order[1] = order[1], order[0]
	}
	return sums, nil
}

// conditions says what was compared, and how.
func conditions(binary string, s settings) string {
	caddy := "an unknown version"
	if info, err := buildinfo.ReadFile(binary); err == nil {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/caddyserver/caddy/v2" {
				caddy = dep.Version
			}
		}
	}
	return fmt.Sprintf("Caddy %s, %s, %d CPUs, HTTP/1.1, %d connections, GET answered with %d bytes, %d rounds of %v",
		caddy, runtime.Version(), runtime.NumCPU(), s.conns, len(member), s.rounds, s.length)
}

// startUpstream starts this program as the upstream and returns its address.
func startUpstream(ctx context.Context) (address string, end func(), err error) {
	cmd, err := as(ctx, upstreamRole)
	if err != nil {
		return "", nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("starting the upstream: %w", err)
	}
	end = func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
	address, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		end()
		return "", nil, fmt.Errorf("starting the upstream: %w", err)
	}
	return strings.TrimSpace(address), end, nil
}

// as makes a command of this program in one of its roles.
func as(ctx context.Context, role string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, role)
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// load has this program make the requests of a job in a process of its own.
func load(ctx context.Context, j job) (s sample, err error) {
	cmd, err := as(ctx, loadRole)
	if err != nil {
		return s, err
	}
	in, err := json.Marshal(j)
	if err != nil {
		return s, err
	}
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("reading what the load generator says: %w", err)
	}
	return s, nil
}
