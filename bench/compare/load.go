package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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
	Request []byte        // sent as it is, again and again
	Want    []byte        // the body of every answer
	Conns   int           // connections, each with one request under way
	Length  time.Duration // after which no new request begins
}

// generate sends the requests of one job and answers with a sample that lacks
// the processor time, which only the other side of the wire can tell.
//
// It speaks HTTP by hand: a client that took as much time as the proxy would
// measure itself, since on few cores they take it from each other.
func generate(in io.Reader, out io.Writer) error {
	var j job
	if err := json.NewDecoder(in).Decode(&j); err != nil {
		return fmt.Errorf("reading the job: %w", err)
	}
	started := time.Now()
	took, errs := make([][]time.Duration, j.Conns), make([]error, j.Conns)
	var all sync.WaitGroup
	for i := range j.Conns {
		all.Go(func() { took[i], errs[i] = j.drive(started) })
	}
	all.Wait()
	elapsed := time.Since(started)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(sample{Elapsed: elapsed, Took: slices.Concat(took...)})
}

// drive keeps one connection busy and returns how long each exchange took.
func (j job) drive(started time.Time) ([]time.Duration, error) {
	conn, err := net.Dial("tcp", j.Address) //nolint:noctx // the deadline below bounds all of it
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	end := started.Add(j.Length)
	if err := conn.SetDeadline(end.Add(patience)); err != nil {
		return nil, err
	}
	in, got := bufio.NewReader(conn), bytes.Buffer{}
	var took []time.Duration
	for now := time.Now(); now.Before(end); {
		if _, err := conn.Write(j.Request); err != nil {
			return nil, fmt.Errorf("sending request %d of a connection: %w", len(took)+1, err)
		}
		if err := j.receive(in, &got); err != nil {
			return nil, fmt.Errorf("answer %d of a connection: %w", len(took)+1, err)
		}
		done := time.Now()
		took, now = append(took, done.Sub(now)), done
	}
	return took, nil
}

// receive reads one answer, which must be the one that is wanted: a refusal is
// cheap, and would make its contender look good.
func (j job) receive(in *bufio.Reader, got *bytes.Buffer) error {
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got.Reset()
	if _, err := got.ReadFrom(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !bytes.Equal(got.Bytes(), j.Want) {
		return fmt.Errorf("got %s with %d bytes, want 200 with the %d bytes of the upstream", resp.Status, got.Len(), len(j.Want))
	}
	return nil
}
