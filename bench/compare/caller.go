package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// serverName is the name that certificates are made for.
const serverName = "localhost"

// streams is how many callers share a connection of HTTP/2.
const streams = 8

// taker reads an answer to its end.
type taker interface {
	receive(resp *http.Response) error
}

// caller makes one request after another.
type caller interface {
	exchange(into taker) error
	close()
}

// callers connects all that a job needs.
func (j job) callers() (list []caller, err error) {
	if j.Roots == nil {
		for range j.Conns {
			c, err := j.connect()
			if err != nil {
				return nil, err
			}
			list = append(list, c)
		}
		return list, nil
	}
	var shared *http.Transport
	for i := range j.Conns {
		if i%streams == 0 {
			if shared, err = j.transport(); err != nil {
				return nil, err
			}
		}
		list = append(list, &secureCaller{j, shared})
	}
	return list, nil
}

// plainCaller is a connection of HTTP/1.1. It writes requests by hand: a client
// that took as much time as the proxy would measure itself, since on few cores
// they take it from each other.
type plainCaller struct {
	conn net.Conn
	in   *bufio.Reader
	wire []byte
}

func (j job) connect() (*plainCaller, error) {
	conn, err := net.Dial("tcp", j.Address) //nolint:noctx // the deadline below bounds all of it
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(j.Length + patience)); err != nil {
		return nil, err
	}
	return &plainCaller{conn, bufio.NewReaderSize(conn, 32<<10), j.Request.wire(j.Address)}, nil
}

func (c *plainCaller) exchange(into taker) error {
	if _, err := c.conn.Write(c.wire); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return into.receive(resp)
}

func (c *plainCaller) close() { _ = c.conn.Close() }

// secureCaller shares a connection of HTTP/2 over TLS with others.
type secureCaller struct {
	job    job
	shared *http.Transport
}

func (j job) transport() (*http.Transport, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(j.Roots) {
		return nil, errors.New("no certificate in the job's roots")
	}
	t := &http.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: roots, ServerName: serverName, MinVersion: tls.VersionTLS13},
		Protocols:          new(http.Protocols),
		DisableCompression: true,
	}
	t.Protocols.SetHTTP2(true)
	return t, nil
}

func (c *secureCaller) exchange(into taker) error {
	r := c.job.Request
	req, err := http.NewRequest(r.Method, "https://"+c.job.Address+r.Path, strings.NewReader(r.Body)) //nolint:noctx // the client's timeout bounds it
	if err != nil {
		return err
	}
	req.Host, req.Header = serverName, r.header()
	resp, err := (&http.Client{Transport: c.shared, Timeout: c.job.Length + patience}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		return fmt.Errorf("the answer came over %s", resp.Proto)
	}
	return into.receive(resp)
}

func (c *secureCaller) close() { c.shared.CloseIdleConnections() }
