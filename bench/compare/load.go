package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

const loadRole = "load"

// patience is how long a load may take beyond its length before it fails.
const patience = 15 * time.Second

// job is what the load generator is told, as JSON on its standard input.
type job struct {
	Address string        // host:port
	Roots   []byte        // certificates to trust, as PEM; none means plain HTTP/1.1
	Request request       // sent again and again
	Want    answer        // what comes back each time
	Conns   int           // requests that are under way at once
	Rate    int           // of all together in a second; 0 is as many as can be
	Length  time.Duration // after which no new request begins
}

// request is what a caller asks.
type request struct{ Method, Path, Key, Body string }

// wire is the request as HTTP/1.1 writes it.
func (r request) wire(host string) []byte {
	text := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: compare\r\nAccept: application/json\r\nAuthorization: Bearer %s\r\n",
		r.Method, r.Path, host, r.Key)
	if r.Body != "" {
		text = fmt.Appendf(text, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(r.Body))
	}
	return append(append(text, "\r\n"...), r.Body...)
}

// header is the same for HTTP/2.
func (r request) header() http.Header {
	h := http.Header{"User-Agent": {"compare"}, "Accept": {"application/json"}, "Authorization": {"Bearer " + r.Key}}
	if r.Body != "" {
		h.Set("Content-Type", "application/json")
	}
	return h
}

// answer tells one answer from another without holding it: a list may be large.
type answer struct {
	Status int
	Length int64 // -1 is any, for answers that differ each time
	Sum    uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func answerOf(status int, body []byte) answer {
	return answer{status, int64(len(body)), crc32.Checksum(body, castagnoli)}
}

// generate sends the requests of one job and answers with a sample that lacks
// what only the other side of the wire can tell.
func generate(in io.Reader, out io.Writer) error {
	var j job
	if err := json.NewDecoder(in).Decode(&j); err != nil {
		return fmt.Errorf("reading the job: %w", err)
	}
	callers, err := j.callers()
	if err != nil {
		return err
	}
	started := time.Now()
	took, errs := make([][]time.Duration, j.Conns), make([]error, j.Conns)
	var all sync.WaitGroup
	for i, c := range callers {
		all.Go(func() { took[i], errs[i] = j.drive(c, i, started) })
	}
	all.Wait()
	elapsed := time.Since(started)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(sample{Elapsed: elapsed, Took: slices.Concat(took...)})
}

// drive keeps one caller busy, or to its part of the rate, and returns how long
// each exchange took.
func (j job) drive(c caller, nth int, started time.Time) (took []time.Duration, err error) {
	defer c.close()
	end, r := started.Add(j.Length), receiver{want: j.Want, sum: crc32.New(castagnoli)}
	for now := time.Now(); ; {
		from := now
		if j.Rate > 0 {
			from = j.due(nth, len(took), started)
		}
		if !from.Before(end) {
			return took, nil
		}
		// What the generator's own clock is late by is not the proxy's: only
		// who still waits for an answer counts from when the next was due.
		if now.Before(from) {
			time.Sleep(from.Sub(now))
			from = time.Now()
		}
		if err := c.exchange(&r); err != nil {
			return nil, fmt.Errorf("request %d of a caller: %w", len(took)+1, err)
		}
		now = time.Now()
		took = append(took, now.Sub(from))
	}
}

// due is when a caller's next request is to begin: all callers share the rate.
func (j job) due(nth, done int, started time.Time) time.Time {
	return started.Add(time.Duration(nth+done*j.Conns) * time.Second / time.Duration(j.Rate))
}

// receiver holds answers against the one that is wanted: a refusal is cheap, and
// would make its contender look good.
type receiver struct {
	want answer
	sum  hash.Hash32
	buf  [32 << 10]byte
}

func (r *receiver) receive(resp *http.Response) error {
	r.sum.Reset()
	got := answer{Status: resp.StatusCode}
	for {
		n, err := resp.Body.Read(r.buf[:])
		_, _ = r.sum.Write(r.buf[:n]) // never fails
		got.Length += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	got.Sum = r.sum.Sum32()
	if got.Status != r.want.Status || r.want.Length >= 0 && got != r.want {
		return fmt.Errorf("got status %d with %d bytes, want %d with %d; or other bytes", got.Status, got.Length, r.want.Status, r.want.Length)
	}
	return nil
}

// keeper is a receiver's place where the answer itself is wanted.
type keeper struct {
	status int
	body   bytes.Buffer
}

func (k *keeper) receive(resp *http.Response) error {
	k.status = resp.StatusCode
	k.body.Reset()
	_, err := k.body.ReadFrom(resp.Body)
	return err
}
