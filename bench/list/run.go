package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
	"github.com/scopegate/scopegate/tokens"
)

// lines are what the gateway has besides what every bench has: a store, and a
// team that makes and lists tokens.
const lines = `store sqlite {$DIR}/store.db
		team lister {
			scopes token.* members.read-all
			mint {
				scopes members.read-all
				allowed_ips 203.0.113.0/24
				max_ttl 30d
				max_live 1000
			}
		}`

const (
	listPath = "/api/v1/tokens"
	copyPath = rig.Path
)

// caller is a caller of the gateway.
type caller struct {
	gateway *rig.Gateway
	key     string
	own     map[string]bool // ids of the team's tokens
}

func run(ctx context.Context, s settings) (ok bool, err error) {
	progress("building the gateway")
	w, err := rig.NewWorld(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	g, err := w.Gateway(ctx, "gateway", lines)
	if err != nil {
		return false, err
	}
	defer g.Stop()

	c := &caller{gateway: g, own: map[string]bool{}}
	progress("making %d tokens", s.own)
	if err := c.mint(ctx, s.own); err != nil {
		return false, err
	}
	a, err := fill(ctx, w.API, c.own, s.tokens)
	if err != nil {
		return false, err
	}
	return c.compare(ctx, a, s.rounds)
}

// mint makes the team's own tokens.
func (c *caller) mint(ctx context.Context, n int) error {
	var made struct {
		Key string `json:"key"`
	}
	if err := c.gateway.Call(ctx, http.MethodPost, "default/credentials", map[string]string{"team": "lister", "name": "bench"}, &made); err != nil {
		return err
	}
	c.key = made.Key
	expires := time.Now().UTC().AddDate(0, 0, 20).Format(time.DateTime)
	for i := range n {
		answer, err := c.ask(ctx, http.MethodPost, "/api/v1/token", fmt.Sprintf(
			`{"name":"nightly export %d","expires_at":%q,"allowed_ips":["203.0.113.10"],"allowed_scopes":["members.read-all"]}`, i, expires))
		if err != nil {
			return err
		}
		id, err := tokens.MintedID(answer)
		if err != nil {
			return err
		}
		c.own[id] = true
	}
	return nil
}

// ask makes a request, and returns the body of an answer that is a success.
func (c *caller) ask(ctx context.Context, method, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.gateway.Address+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer[:min(len(answer), 300)])
	}
	return answer, nil
}

// figures are what was measured with one shape.
type figures struct {
	step, list, copied []float64 // bytes of the list in a second of processor time
	listMemory         int64     // bytes that memory grew by at its most
	copyMemory         int64
}

// compare measures every shape, and reports whether the goals were met.
func (c *caller) compare(ctx context.Context, a *account, rounds int) (ok bool, err error) {
	progress("listing few tokens, until the gateway's memory does not change by that")
	before, err := c.settle(ctx, a)
	if err != nil {
		return false, err
	}
	fmt.Printf("%-16s %9s %6s %10s %10s %10s %12s %12s\n", "shape", "MB", "own", "step", "list", "copy", "list growth", "copy growth")
	ok = true
	for _, shape := range shapes {
		progress("measuring %s", shape.name)
		body := shape.wrap(a.all)
		a.answer.Store(&body)
		f, err := c.measure(ctx, shape, body, rounds, before)
		if err != nil {
			return false, err
		}
		step := median(f.step)
		fmt.Printf("%-16s %9.1f %6d %5.0f MB/s %5.0f MB/s %5.0f MB/s %9.2f MB %9.2f MB\n", shape.name, float64(len(body))/1e6, len(c.own),
			step/1e6, median(f.list)/1e6, median(f.copied)/1e6, float64(f.listMemory)/1e6, float64(f.copyMemory)/1e6)
		ok = ok && step >= goalSpeed && f.listMemory < goalMemory
	}
	word := "ok"
	if !ok {
		word = "MISSED"
	}
	fmt.Printf("list: goal=%.0fMB/s,%.0fMB %s\n", goalSpeed/1e6, goalMemory/1e6, word)
	return ok, nil
}

// settle lets the gateway answer short lists until its memory no longer grows by
// them, and returns the most that it was. A heap that is collected goes up and
// down by itself.
func (c *caller) settle(ctx context.Context, a *account) (most int64, err error) {
	for quiet := 0; quiet < 3; quiet++ {
		for i := range 900 {
			body := shapes[i%len(shapes)].wrap(a.own)
			a.answer.Store(&body)
			for _, path := range []string{listPath, copyPath} {
				if _, err := c.ask(ctx, http.MethodGet, path, ""); err != nil {
					return 0, err
				}
			}
		}
		peak, err := c.gateway.PeakMemory()
		if err != nil {
			return 0, err
		}
		if peak > most+most/100 {
			quiet = 0
		}
		most = max(most, peak)
	}
	return most, nil
}

// measure measures one shape.
func (c *caller) measure(ctx context.Context, shape shape, body []byte, rounds int, before int64) (f figures, err error) {
	for range rounds {
		took, err := cpu(os.Getpid(), func() error {
			_, err := tokens.List(bytes.NewReader(body), func(id []byte) bool { return c.own[string(id)] })
			return err
		})
		if err != nil {
			return f, err
		}
		f.step = append(f.step, float64(len(body))/took.Seconds())

		var answer []byte
		took, grown, err := c.watch(before, func() (err error) {
			answer, err = c.ask(ctx, http.MethodGet, listPath, "")
			return err
		})
		if err != nil {
			return f, err
		}
		if err := c.check(shape, answer); err != nil {
			return f, err
		}
		f.list, f.listMemory = append(f.list, float64(len(body))/took.Seconds()), max(f.listMemory, grown)

		took, grown, err = c.watch(before, func() (err error) {
			answer, err = c.ask(ctx, http.MethodGet, copyPath, "")
			return err
		})
		if err != nil {
			return f, err
		}
		if !bytes.Equal(answer, body) {
			return f, errors.New("the copy is not what upstream answered")
		}
		f.copied, f.copyMemory = append(f.copied, float64(len(body))/took.Seconds()), max(f.copyMemory, grown)
	}
	return f, nil
}

// watch returns how much processor time the gateway took for something, and
// how far its memory was above before at the most.
func (c *caller) watch(before int64, do func() error) (took time.Duration, grown int64, err error) {
	if err := c.gateway.ResetPeak(); err != nil {
		return 0, 0, err
	}
	if took, err = cpu(c.gateway.PID, do); err != nil {
		return 0, 0, err
	}
	peak, err := c.gateway.PeakMemory()
	return took, peak - before, err
}

func cpu(pid int, do func() error) (time.Duration, error) {
	before, err := rig.CPUTime(pid)
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	after, err := rig.CPUTime(pid)
	return after - before, err
}

// check holds that an answer has the shape of upstream's list, and in it the
// caller's tokens and no other.
func (c *caller) check(s shape, answer []byte) error {
	list, err := s.unwrap(answer)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, token := range list {
		seen[idOf(token)] = true
	}
	for id := range seen {
		if !c.own[id] {
			return errors.New("the answer has a token that is not the caller's")
		}
	}
	if len(list) != len(c.own) || len(seen) != len(c.own) {
		return fmt.Errorf("the answer has %d tokens, %d of them different, not %d", len(list), len(seen), len(c.own))
	}
	return nil
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
