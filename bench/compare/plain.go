package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

const plainRole = "plain"

// plainProxy is what the proxy in plain Go is told, as JSON on its standard
// input: what a programmer would write in an afternoon for the same purpose.
type plainProxy struct {
	Address  string
	Upstream string            // URL
	Keys     map[string]string // team by key
	Master   string
	Cert     string // files, where both sides have TLS
	Key      string
}

// servePlain serves until its standard input ends.
func servePlain(in io.Reader, _ io.Writer) error {
	decoder := json.NewDecoder(in)
	var p plainProxy
	if err := decoder.Decode(&p); err != nil {
		return fmt.Errorf("reading what to be: %w", err)
	}
	handler, err := p.handler()
	if err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", p.Address)
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: handler}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		_ = server.Close()
	}()
	if p.Cert != "" {
		err = server.ServeTLS(ln, p.Cert, p.Key)
	} else {
		err = server.Serve(ln)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// handler checks the key and passes the request on with the master token.
func (p plainProxy) handler() (http.Handler, error) {
	target, err := url.Parse(p.Upstream)
	if err != nil {
		return nil, err
	}
	// By default two connections are kept, and most requests would open one.
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true, ForceAttemptHTTP2: true}
	if p.Cert != "" {
		pem, err := os.ReadFile(p.Cert)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
	}
	proxy := &httputil.ReverseProxy{
		Transport: transport, BufferPool: new(buffers),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Set("Authorization", "Bearer "+p.Master)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !bearer || p.Keys[key] == "" {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, r)
	}), nil
}

// buffers are what answers are copied through: without them each would have
// 32 KiB of its own, which costs as much as all the rest.
type buffers struct{ sync.Pool }

func (b *buffers) Get() []byte {
	if buf, ok := b.Pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(buf []byte) { b.Pool.Put(&buf) }
