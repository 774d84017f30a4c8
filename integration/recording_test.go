//go:build unix

package integration_test

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/scopegate/scopegate/simulator"
)

// pipe stands for a disk that fills up and is emptied again: a named pipe can
// be written to while somebody reads it, and not otherwise.
type pipe struct {
	path string
	read *os.File
	text bytes.Buffer
	done sync.WaitGroup
}

func newPipe(t *testing.T) *pipe {
	t.Helper()
	p := &pipe{path: filepath.Join(t.TempDir(), "audit.pipe")}
	if err := syscall.Mkfifo(p.path, 0o600); err != nil {
		t.Fatal(err)
	}
	p.open(t)
	t.Cleanup(p.close)
	return p
}

func (p *pipe) open(t *testing.T) {
	t.Helper()
	// Without waiting for a writer, and through the poller, so that closing
	// it ends the reading.
	f, err := os.OpenFile(p.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.read = f
	p.done.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := f.Read(buf)
			p.text.Write(buf[:n])
			if err != nil {
				return
			}
		}
	})
}

// close makes writing fail.
func (p *pipe) close() {
	_ = p.read.Close()
	p.done.Wait()
}

// TestNoRecordNoRequest takes the audit log away while the gateway runs. As
// long as nothing can be recorded, nothing is served and nothing arrives
// upstream; once it can, all is well, without a restart.
func TestNoRecordNoRequest(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Options{})
	up := httptest.NewServer(sim)
	t.Cleanup(up.Close)
	caller := newHolder("ops", "one", "members.read-all", "token.create", "token.read-all", "token.delete", "members.delete")
	disk := newPipe(t)
	g := start(t, preamble+site(`scopegate {
		upstream {$UPSTREAM} {
			master_token {env.MASTER}
		}
		team ops {
			scopes members.* token.*
			mint {
				scopes members.read-all
				allowed_ips 198.51.100.0/24
			}
			`+caller.block()+`
		}
		audit {
			output file {$PIPE} {
				roll_disabled
			}
		}
		reconcile off
	}`), "MASTER="+sim.Master(), "UPSTREAM="+up.URL, "PIPE="+disk.path)

	status := func(c call) *answer {
		c.key = caller.key
		return send(t, g.addr, c)
	}
	ready := func() int { return send(t, g.addr, call{method: "GET", target: "/_scopegate/readyz"}).status }
	calls := []call{
		{method: "GET", target: "/api/v1/members"},
		{method: "DELETE", target: "/api/v1/member/" + simulator.MemberID},
		{method: "POST", target: "/api/v1/token", body: minting("members.read-all")},
		{method: "GET", target: "/api/v1/tokens"},
		{method: "GET", target: "/_scopegate/v1/whoami"},
		{method: "GET", target: "/nowhere"},
		{method: "PUT", target: "/api/v1/members"},
		{method: "POST", target: "/api/v1/token", body: "{"},
	}
	if a := status(calls[0]); a.status != 200 || ready() != 200 {
		t.Fatalf("before: %d %s, ready %d", a.status, a.body, ready())
	}
	for range 2 {
		disk.close()
		sim.Forget()
		for _, c := range calls {
			if a := status(c); a.status != 503 || a.Reason != "audit_unavailable" || a.DeniedBy != "gateway" {
				t.Errorf("%s %s: %d %s", c.method, c.target, a.status, a.body)
			}
		}
		if got := ready(); got != 503 {
			t.Errorf("ready: %d", got)
		}
		if got := send(t, g.addr, call{method: "GET", target: "/_scopegate/livez"}).status; got != 200 {
			t.Errorf("alive: %d", got)
		}
		if seen := sim.Requests(); len(seen) > 0 {
			t.Errorf("unrecorded requests arrived upstream: %+v", seen)
		}
		if n := g.metrics(t)[`scopegate_audit_failures_total{gateway="default"}`]; n < float64(len(calls)) {
			t.Errorf("%v failures counted", n)
		}

		disk.open(t)
		if got := ready(); got != 200 {
			t.Errorf("ready again: %d", got)
		}
		if a := status(calls[0]); a.status != 200 {
			t.Errorf("again: %d %s", a.status, a.body)
		}
	}
	disk.close()
	decided, ended := 0, 0
	for _, r := range parseRecords(t, disk.text.String()) {
		switch r.Phase {
		case "decided":
			decided++
		case "ended":
			ended++
		}
	}
	if decided != 3 || ended > decided {
		t.Errorf("%d decisions and %d ends on record, want 3 of each", decided, ended)
	}
}
