package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const upstreamRole = "upstream"

// member is what the upstream answers to everything: an object of the size that
// the API's small answers have, about 300 bytes.
const member = `{"data":{"id":"5f0c2a1e-7b1d-4c53-9a42-0b6b7c1d2e3f","email":"someone@example.com","first_name":"Some","last_name":"One",` +
	`"role":"member","status":"active","two_factor":true,"created_at":"2026-01-31 08:15:00","last_seen_at":"2026-02-01 17:42:10",` +
	`"groups":["engineering","on-call"],"client_ip":"192.0.2.17"}}`

// serveUpstream is the upstream: it prints its address and serves until its
// standard input ends, so that it cannot outlive whoever started it.
func serveUpstream(in io.Reader, out io.Writer) error {
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{"application/json"}
			_, _ = io.WriteString(w, member)
		}),
	}
	fmt.Fprintln(out, ln.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, in)
		_ = server.Close()
	}()
	if err := server.Serve(ln); err != http.ErrServerClosed {
		return err
	}
	return nil
}
