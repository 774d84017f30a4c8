package integration_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// call is one request, byte by byte: no library stands between a test and
// the socket that could clean up what the test means to send.
type call struct {
	method, target string
	key            string   // for Authorization: Bearer; "" sends none
	header         []string // further lines, sent as they are
	body           string
	raw            string // the whole request in place of all of the above
	leave          bool   // ends its side of the connection once all is sent
}

// text is the request as it is sent.
func (c call) text(host string) string {
	if c.raw != "" {
		return strings.ReplaceAll(c.raw, "%HOST%", host)
	}
	has := func(name string) bool {
		for _, line := range c.header {
			if len(line) >= len(name) && strings.EqualFold(line[:len(name)], name) {
				return true
			}
		}
		return false
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", c.method, c.target)
	if !has("Host:") {
		fmt.Fprintf(&b, "Host: %s\r\n", host)
	}
	if c.key != "" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", c.key)
	}
	for _, line := range c.header {
		b.WriteString(line + "\r\n")
	}
	if c.body != "" {
		if !has("Content-Type") {
			b.WriteString("Content-Type: application/json\r\n")
		}
		if !has("Content-Length") && !has("Transfer-Encoding") {
			fmt.Fprintf(&b, "Content-Length: %d\r\n", len(c.body))
		}
	}
	if !has("Connection:") {
		b.WriteString("Connection: close\r\n")
	}
	return b.String() + "\r\n" + c.body
}

// chunked puts a body into chunks of at most the given size.
func chunked(body string, size int) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// answer is all that came back on a connection.
type answer struct {
	status int // 0 where no answer came
	header http.Header
	body   string
	broken bool   // the body ended before its end
	more   string // what came behind the answer
	problem
}

// problem is the body of a refusal.
type problem struct {
	Type        string `json:"type"`
	Status      int    `json:"status"`
	Reason      string `json:"reason"`
	Decision    string `json:"decision_id"`
	DeniedBy    string `json:"denied_by"`
	Description string `json:"error_description"`
	Field       string `json:"field"`
	Upstream    int    `json:"upstream_status"`
}

// decision is the id under which the gateway recorded the request.
func (a *answer) decision() string { return a.header.Get("Scopegate-Decision-Id") }

// send makes a call and reads until the gateway closes the connection.
func send(t *testing.T, addr string, c call) *answer {
	t.Helper()
	return <-begin(t, addr, c)
}

// begin makes a call and does not wait for what comes back.
func begin(t *testing.T, addr string, c call) <-chan *answer {
	t.Helper()
	conn := dial(t, addr)
	back := make(chan *answer, 1)
	go func() {
		defer conn.Close()
		// A gateway that has refused need not read on: writing may fail.
		_, _ = io.WriteString(conn, c.text(addr))
		if c.leave {
			_ = conn.CloseWrite()
		}
		back <- receive(t, conn, c.method)
	}()
	return back
}

// try makes a call and returns nil where the connection ended before anything
// of an answer came.
func try(t *testing.T, addr string, c call) *answer {
	t.Helper()
	conn, err := connect(addr)
	if err != nil {
		return nil
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, c.text(addr)) // nor does an answer come then
	if a := receive(t, conn, c.method); a.status != 0 {
		return a
	}
	return nil
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := connect(addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// connect opens a connection that ends when patience does.
func connect(addr string) (*net.TCPConn, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), conn.SetDeadline(time.Now().Add(patience))
}

// receive reads one answer, and all that comes behind it.
func receive(t *testing.T, conn net.Conn, method string) *answer {
	t.Helper()
	r := bufio.NewReader(conn)
	a := &answer{header: http.Header{}}
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			t.Error("no answer")
			return a
		case err != nil:
			return a
		case resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols:
			continue // 100 Continue and its like
		}
		a.status, a.header = resp.StatusCode, resp.Header
		body, err := io.ReadAll(resp.Body)
		a.body, a.broken = string(body), err != nil
		break
	}
	more, _ := io.ReadAll(r) // a reset says no more than an end
	a.more = string(more)
	if strings.HasPrefix(a.header.Get("Content-Type"), "application/problem+json") && method != http.MethodHead {
		dec := json.NewDecoder(bytes.NewReader([]byte(a.body)))
		if err := dec.Decode(&a.problem); err != nil {
			t.Errorf("a problem that is no JSON: %v\n%s", err, a.body)
		}
	}
	return a
}
