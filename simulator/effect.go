package simulator

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Status answers with a status, such as 503 or 101, an error body and the
// given headers, such as Retry-After; nil for none. The operation is not
// carried out.
func Status(code int, header http.Header) Effect {
	header = header.Clone()
	return func(w http.ResponseWriter, _ *http.Request, _ func() Answer) {
		if header.Get("Content-Type") == "" {
			w.Header().Set("Content-Type", "application/json")
		}
		Answer{
			Status: code, Header: header,
			Body: []byte(`{"error":"fault","error_description":"A fault of the simulator"}`),
		}.Send(w)
	}
}

// Redirect answers 302 with a Location. The operation is not carried out.
func Redirect(location string) Effect {
	return Status(http.StatusFound, http.Header{"Location": {location}})
}

// Refuse resets the connection before anything is carried out. On HTTP/2 the
// stream is reset. Like all effects that cut a connection it needs a real
// server, not an httptest.ResponseRecorder.
func Refuse() Effect {
	return func(w http.ResponseWriter, _ *http.Request, _ func() Answer) { reset(w) }
}

// Lose carries the operation out and resets the connection instead of
// answering: the caller cannot know whether it happened.
func Lose() Effect {
	return func(w http.ResponseWriter, _ *http.Request, answer func() Answer) {
		answer()
		reset(w)
	}
}

// reset closes the connection so that the peer sees a reset, not an end.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 has no connection to take
	}
	raw := conn
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		raw = secure.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = raw.Close()
}

// Hold carries the operation out and holds the answer back until release is
// closed. If the caller goes away first, what was done stays done. Each
// request that is held sends on arrived, unless it is nil, so that a test can
// wait for it.
func Hold(arrived chan<- struct{}, release <-chan struct{}) Effect {
	return func(w http.ResponseWriter, r *http.Request, answer func() Answer) {
		a := answer()
		if wait(r, arrived, release) {
			a.Send(w)
		}
	}
}

// Stall sends the headers and half of the body, and the other half once
// release is closed. Arrived is as for Hold.
func Stall(arrived chan<- struct{}, release <-chan struct{}) Effect {
	return func(w http.ResponseWriter, r *http.Request, answer func() Answer) {
		a := answer()
		half := len(a.Body) / 2
		a.start(w, len(a.Body))
		if send(w, a.Body[:half]) && wait(r, arrived, release) {
			_, _ = w.Write(a.Body[half:])
		}
	}
}

// wait reports whether the caller is still there.
func wait(r *http.Request, arrived chan<- struct{}, release <-chan struct{}) bool {
	if arrived != nil {
		select {
		case arrived <- struct{}{}:
		case <-r.Context().Done():
			return false
		}
	}
	select {
	case <-release:
		return true
	case <-r.Context().Done():
		return false
	}
}

// send writes and flushes, and reports whether the caller is still there.
func send(w http.ResponseWriter, b []byte) bool {
	if _, err := w.Write(b); err != nil {
		return false
	}
	return http.NewResponseController(w).Flush() == nil
}

// Trickle sends the body byte by byte, with a pause before each.
func Trickle(pause time.Duration) Effect {
	return func(w http.ResponseWriter, r *http.Request, answer func() Answer) {
		a := answer()
		a.start(w, len(a.Body))
		for i := range a.Body {
			select {
			case <-time.After(pause):
			case <-r.Context().Done():
				return
			}
			if !send(w, a.Body[i:i+1]) {
				return
			}
		}
	}
}

// Truncate announces the whole body, sends half of it and closes the
// connection.
func Truncate() Effect {
	return func(w http.ResponseWriter, _ *http.Request, answer func() Answer) {
		a := answer()
		a.start(w, len(a.Body))
		send(w, a.Body[:len(a.Body)/2])
		panic(http.ErrAbortHandler) // net/http's way to end in the middle
	}
}

// Garble sends half of the body as though it were the whole: an answer that
// arrives in full and is not valid JSON.
func Garble() Effect {
	return func(w http.ResponseWriter, _ *http.Request, answer func() Answer) {
		a := answer()
		a.Body = a.Body[:len(a.Body)/2]
		a.Send(w)
	}
}

// Gzip compresses the body, whatever encodings the request accepts.
func Gzip() Effect {
	return func(w http.ResponseWriter, _ *http.Request, answer func() Answer) {
		a := answer()
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, _ = z.Write(a.Body) // a bytes.Buffer takes all
		_ = z.Close()
		a.Body = packed.Bytes()
		a.Header.Set("Content-Encoding", "gzip")
		a.Send(w)
	}
}

// Huge answers 200 with a JSON list of about size bytes, without a
// Content-Length: an empty list with blanks in it. The operation is not
// carried out.
func Huge(size int64) Effect {
	return func(w http.ResponseWriter, _ *http.Request, _ func() Answer) {
		w.Header().Set("Content-Type", "application/json")
		blanks := bytes.Repeat([]byte{' '}, 32<<10)
		if _, err := io.WriteString(w, "["); err != nil {
			return
		}
		for left := size - 2; left > 0; left -= int64(len(blanks)) {
			if _, err := w.Write(blanks[:min(left, int64(len(blanks)))]); err != nil {
				return
			}
		}
		_, _ = io.WriteString(w, "]")
	}
}

// LeakHeader answers as usual, with one more header: the master's secret, say.
func LeakHeader(name, secret string) Effect {
	return func(w http.ResponseWriter, _ *http.Request, answer func() Answer) {
		a := answer()
		a.Header.Set(name, secret)
		a.Send(w)
	}
}

// LeakBody answers 200 with a JSON object that echoes the secret, which must
// hold neither quotes nor backslashes. Its first byte comes after at least
// offset other bytes, exactly so many where offset is 9 or more, so that it
// can be made to lie across the borders of buffers. The operation is not
// carried out.
func LeakBody(secret string, offset int) Effect {
	const before, after = `{"echo":"`, `"}`
	blanks := strings.Repeat(" ", max(0, offset-len(before)))
	body := before[:1] + blanks + before[1:] + secret + after
	return func(w http.ResponseWriter, _ *http.Request, _ func() Answer) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = io.WriteString(w, body)
	}
}

// Widen makes createToken keep only the name of what is asked for: the token
// that comes out has every scope, works from everywhere and never ends. It is
// for the operation createToken alone.
func Widen() Effect {
	return func(w http.ResponseWriter, r *http.Request, answer func() Answer) {
		var ask struct {
			Name string `json:"name"`
		}
		_ = json.NewDecoder(r.Body).Decode(&ask) // a wrong body is widened too
		body, err := json.Marshal(ask)
		if err != nil {
			panic(err) // a string can always be encoded
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer().Send(w)
	}
}
