package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/scopegate/scopegate/simulator"
)

const upstreamRole = "upstream"

// member is what the upstream answers to a request for one: an object of the
// size that the API's small answers have, about 300 bytes.
const member = `{"data":{"id":"5f0c2a1e-7b1d-4c53-9a42-0b6b7c1d2e3f","email":"someone@example.com","first_name":"Some","last_name":"One",` +
	`"role":"member","status":"active","two_factor":true,"created_at":"2026-01-31 08:15:00","last_seen_at":"2026-02-01 17:42:10",` +
	`"groups":["engineering","on-call"],"client_ip":"192.0.2.17"}}`

// Paths of the API. That of a member has an id in it, the dearer kind to match.
const (
	memberPath  = "/api/v1/member/5f0c2a1e-7b1d-4c53-9a42-0b6b7c1d2e3f"
	membersPath = "/api/v1/members"
	systemsPath = "/api/v1/systems"
	tokenPath   = "/api/v1/token"
	tokensPath  = "/api/v1/tokens"
)

// listening is the first line that the upstream is told: its certificate as PEM,
// and the token that it takes.
type listening struct {
	Cert, Key []byte
	Master    string
}

// api is the upstream: a member that never changes, lists as long as it is told,
// and the simulator's tokens.
type api struct {
	*simulator.Simulator

	list     atomic.Pointer[[]byte] // nil is the simulator's own
	accepted atomic.Int64           // connections
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	list := a.list.Load()
	switch {
	case r.URL.Path == memberPath:
		w.Header()["Content-Type"] = []string{"application/json"}
		_, _ = io.WriteString(w, member)
	case list != nil && (r.URL.Path == tokensPath || r.URL.Path == membersPath):
		w.Header()["Content-Type"] = []string{"application/json"}
		_, _ = w.Write(*list)
	default:
		a.Simulator.ServeHTTP(w, r)
	}
}

// serveUpstream is the upstream: it prints its plain and its secure address and
// serves until its standard input ends, so that it cannot outlive whoever
// started it. Each line that it is told has an answer of one line: `accepted` is
// how many connections there were, and `list N` makes lists that long.
func serveUpstream(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	var told listening
	if !lines.Scan() {
		return io.ErrUnexpectedEOF
	}
	if err := json.Unmarshal(lines.Bytes(), &told); err != nil {
		return fmt.Errorf("reading the first line: %w", err)
	}
	a := &api{Simulator: simulator.New(simulator.Options{MasterToken: told.Master})}
	certificate, err := tls.X509KeyPair(told.Cert, told.Key)
	if err != nil {
		return err
	}
	// The secure one speaks HTTP/2 alone, so that no contender can fall back.
	http2 := new(http.Protocols)
	http2.SetHTTP2(true)
	plain, secure := a.server(), a.server()
	secure.Protocols = http2
	secure.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}
	var addresses []string
	failed := make(chan error, 3)
	for _, serve := range []func(net.Listener) error{
		plain.Serve,
		func(ln net.Listener) error { return secure.ServeTLS(ln, "", "") },
	} {
		ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addresses = append(addresses, ln.Addr().String())
		go func() { failed <- serve(ln) }()
	}
	fmt.Fprintln(out, strings.Join(addresses, " "))
	go func() {
		failed <- a.obey(lines, out)
	}()
	err = <-failed
	_, _ = plain.Close(), secure.Close()
	return err
}

func (a *api) server() *http.Server {
	return &http.Server{
		ReadHeaderTimeout: time.Minute, Handler: a,
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				a.accepted.Add(1)
			}
		},
	}
}

// obey does what it is told until there is no more.
func (a *api) obey(lines *bufio.Scanner, out io.Writer) error {
	for lines.Scan() {
		var n int
		switch {
		case lines.Text() == "accepted":
			fmt.Fprintln(out, a.accepted.Load())
		default:
			if _, err := fmt.Sscanf(lines.Text(), "list %d", &n); err != nil {
				return fmt.Errorf("the upstream was told %q", lines.Text())
			}
			list, err := a.lengthen(n)
			if err != nil {
				return err
			}
			a.list.Store(&list)
			fmt.Fprintln(out, len(list))
		}
	}
	return lines.Err()
}

// lengthen makes a list of n tokens, those that the simulator has of the
// caller's among others at equal distances.
func (a *api) lengthen(n int) ([]byte, error) {
	req := httptest.NewRequestWithContext(context.Background(), http.MethodGet, tokensPath, http.NoBody)
	req.Header.Set("Authorization", "Bearer "+a.Master())
	got := httptest.NewRecorder()
	a.Simulator.ServeHTTP(got, req)
	var listed, own []json.RawMessage
	if err := json.Unmarshal(got.Body.Bytes(), &listed); err != nil {
		return nil, fmt.Errorf("reading the simulator's tokens: %w", err)
	}
	for _, token := range listed {
		if !bytes.Contains(token, []byte(a.MasterID())) {
			own = append(own, token)
		}
	}
	if len(own) > n {
		return nil, fmt.Errorf("there are %d tokens already, more than %d", len(own), n)
	}
	every := n / max(len(own), 1)
	list := []byte{'['}
	for i := range n {
		if i > 0 {
			list = append(list, ',')
		}
		if at := i / every; i%every == 0 && at < len(own) {
			list = append(list, own[at]...)
			continue
		}
		list = fmt.Appendf(list, `{"id":"3f0c6a52-8d1e-4b7a-9c55-%012x","name":"nightly export %d-sg-zzzzzzz2-qqqqqqq3-aaaabbbbccccddddeeee-ffffgggghhhhiiii",`+
			`"created_at":"2026-01-31 10:00:00","expires_at":"2027-01-31 23:59:59","allowed_ips":["203.0.113.10","203.0.113.11"],`+
			`"allowed_scopes":["members.read","members.read-all"]}`, i, i)
	}
	return append(list, ']'), nil
}
