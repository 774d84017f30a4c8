package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
	"github.com/scopegate/scopegate/tokens"
)

// run measures all that is wanted. Whatever it started has ended when it returns.
func run(ctx context.Context, s settings) (_ result, err error) {
	dir, err := os.MkdirTemp("", "scopegate-compare-")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(dir)
	say("building ./cmd/scopegate")
	binary, err := rig.Build(ctx, dir)
	if err != nil {
		return result{}, err
	}
	b := bench{settings: s, dir: dir, binary: binary, keys: newRing()}
	if err := b.certify(); err != nil {
		return result{}, err
	}
	r := result{Conditions: conditions(b.binary, s)}
	for _, sc := range scenarios() {
		if !s.wants(sc.name) {
			continue
		}
		var absent []string
		sc.entries, absent = present(sc.entries)
		for _, name := range absent {
			say("%s: no %s, which is not installed", sc.name, name)
		}
		o, err := b.measure(ctx, sc)
		if err != nil {
			return result{}, fmt.Errorf("%s: %w", sc.name, err)
		}
		r.Outcomes = append(r.Outcomes, o)
	}
	r.Goals = judge(r.Outcomes)
	return r, nil
}

// present leaves out contenders that are not installed, and names them.
func present(entries []entry) (list []entry, absent []string) {
	for _, e := range entries {
		if e.contender.program != "" {
			if _, ok := installed(e.contender.program); !ok {
				absent = append(absent, e.contender.name)
				continue
			}
		}
		list = append(list, e)
	}
	return list, absent
}

// bench is what all scenarios of a run share.
type bench struct {
	settings

	dir, binary string
	keys        ring
	cert, key   []byte
}

// certify makes the certificate of both sides.
func (b *bench) certify() (err error) {
	if b.cert, b.key, err = newCertificate(); err != nil {
		return err
	}
	for name, text := range map[string][]byte{"cert.pem": b.cert, "key.pem": b.key, "both.pem": append(bytes.Clone(b.cert), b.key...)} {
		if err := os.WriteFile(filepath.Join(b.dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// world is what one scenario has running.
type world struct {
	bench

	scenario  scenario
	upstream  *upstream
	processes map[string]*process // by the contender's name
	wants     []answer            // of each entry
	asked     int                 // requests that the gateway answered
	own       []string            // ids of the caller's tokens
	listed    int                 // bytes of the upstream's list
}

// measure runs one scenario: everything in it is started for it alone.
func (b *bench) measure(ctx context.Context, sc scenario) (o outcome, err error) {
	w := &world{bench: *b, scenario: sc, processes: map[string]*process{}}
	if w.upstream, err = startUpstream(listening{Cert: b.cert, Key: b.key, Master: master}); err != nil {
		return o, err
	}
	defer w.upstream.stop()
	for _, e := range sc.entries {
		if w.processes[e.contender.name] != nil {
			continue
		}
		p, err := w.start(ctx, e.contender)
		if err != nil {
			return o, fmt.Errorf("starting %s: %w", e.contender.name, err)
		}
		defer p.stop()
		w.processes[e.contender.name] = p
	}
	if err := w.prepare(); err != nil {
		return o, err
	}
	o = outcome{Name: sc.name, Title: sc.title, Load: w.describe()}
	for _, e := range sc.entries {
		o.Entries = append(o.Entries, e.name())
	}
	if _, err := takeTurns(ctx, len(sc.entries), b.length/4, w.turn); err != nil { // they warm up
		return o, err
	}
	for i := range b.rounds {
		samples, err := takeTurns(ctx, len(sc.entries), b.length, w.turn)
		if err != nil {
			return o, err
		}
		var r round
		for _, s := range samples {
			r = append(r, s.measurement())
		}
		o.Rounds = append(o.Rounds, r)
		say("%s: round %d of %d, %s %.2f of the CPU of %s", sc.name, i+1, b.rounds,
			o.Entries[len(r)-1], r[len(r)-1].cost()/r[0].cost(), o.Entries[0])
	}
	return o, w.account()
}

func (w *world) start(ctx context.Context, c contender) (*process, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	p := place{
		dir: filepath.Join(w.dir, w.scenario.name, strings.ReplaceAll(c.name, " ", "-")), binary: w.binary, address: address,
		upstream: w.upstream.plain, secure: w.scenario.secure, keys: w.keys,
		cert: filepath.Join(w.dir, "cert.pem"), key: filepath.Join(w.dir, "key.pem"), both: filepath.Join(w.dir, "both.pem"),
	}
	if p.secure {
		p.upstream = w.upstream.secure
	}
	return start(ctx, c, p)
}

// prepare makes the caller's tokens and upstream's lists, and looks at one
// answer of each entry.
func (w *world) prepare() error {
	if w.scenario.list > 0 {
		for range ownTokens {
			status, body, err := w.once(w.processes[scopegate.name], mint(w.keys.caller().Reveal()))
			if err != nil || status != http.StatusOK {
				return fmt.Errorf("making a token of the caller's: status %d, %w", status, err)
			}
			id, err := tokens.MintedID(body)
			if err != nil {
				return err
			}
			w.own = append(w.own, id)
		}
		var err error
		if w.listed, err = w.upstream.ask("list %d", w.scenario.list); err != nil {
			return err
		}
	}
	for _, e := range w.scenario.entries {
		status, body, err := w.once(w.processes[e.contender.name], e.ask(w.keys))
		if err != nil {
			return fmt.Errorf("asking %s: %w", e.name(), err)
		}
		if status != e.status {
			return fmt.Errorf("%s answers with status %d, not %d: %.300s", e.name(), status, e.status, body)
		}
		want := answer{Status: status, Length: -1}
		if e.check != nil {
			if err := e.check(w, body); err != nil {
				return fmt.Errorf("asking %s: %w", e.name(), err)
			}
			want = answerOf(status, body)
		}
		w.wants = append(w.wants, want)
	}
	return nil
}

// once makes one request.
func (w *world) once(p *process, r request) (status int, body []byte, err error) {
	callers, err := w.job(p, r, 1, 0, time.Second).callers()
	if err != nil {
		return 0, nil, err
	}
	defer callers[0].close()
	var k keeper
	err = callers[0].exchange(&k)
	if p.name == scopegate.name {
		w.asked++
	}
	return k.status, k.body.Bytes(), err
}

func (w *world) job(p *process, r request, conns, rate int, length time.Duration) job {
	j := job{Address: p.address, Request: r, Conns: conns, Rate: rate, Length: length}
	if w.scenario.secure {
		j.Roots = w.cert
	}
	return j
}

// turn puts the contender of an entry under load.
func (w *world) turn(i int, length time.Duration) (sample, error) {
	e := w.scenario.entries[i]
	p := w.processes[e.contender.name]
	conns, rate := w.scenario.load(w.settings)
	j := w.job(p, e.ask(w.keys), conns, rate, length)
	j.Want = w.wants[i]
	before, err := w.upstream.ask("accepted")
	if err != nil {
		return sample{}, err
	}
	s, err := p.watch(func() (sample, error) { return load(j) })
	if err != nil {
		return s, fmt.Errorf("measuring %s: %w", e.name(), err)
	}
	after, err := w.upstream.ask("accepted")
	s.Opened = after - before
	if p.name == scopegate.name {
		w.asked += len(s.Took)
	}
	return s, err
}

// describe says how much is asked.
func (w *world) describe() string {
	conns, rate := w.scenario.load(w.settings)
	switch {
	case rate > 0:
		return fmt.Sprintf("%d connections, %d requests/s", conns, rate)
	case w.scenario.secure:
		return fmt.Sprintf("%d requests at once, %d on a connection", conns, streams)
	case conns == 1:
		return "1 connection"
	default:
		return fmt.Sprintf("%d connections", conns)
	}
}

// account counts the records of a gateway that had to write two for each request.
func (w *world) account() error {
	if !w.scenario.audited {
		return nil
	}
	gateway := w.processes[scopegate.name]
	gateway.stop()
	records, err := audited(gateway.auditDir())
	if err != nil {
		return fmt.Errorf("counting audit records: %w", err)
	}
	if records != 2*w.asked {
		return fmt.Errorf("the audit log holds %d records after %d requests, want two of each", records, w.asked)
	}
	return nil
}

// audited counts the records of the callers' requests in the files of the audit
// log, rolled ones too. The gateway records what it does by itself as well, such
// as to reconcile.
func audited(dir string) (records int, err error) {
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := os.ReadFile(filepath.Join(dir, name))
		for line := range bytes.Lines(file) {
			// No client can write one of these: its quotes are escaped.
			has := func(member string) bool { return bytes.Contains(line, []byte(member)) }
			if has(`"team":"bench"`) && (has(`"phase":"decided"`) || has(`"phase":"ended"`)) {
				records++
			}
		}
		return err
	})
	return records, err
}

// turnLength is the longest that one contender is measured before the next: on a
// machine that others use, who is measured later may meet another machine.
const turnLength = 500 * time.Millisecond

// takeTurns measures each of n for a length of time, in turns: forth and back, so
// that none always comes first.
func takeTurns(ctx context.Context, n int, length time.Duration, turn func(i int, length time.Duration) (sample, error)) ([]sample, error) {
	sums := make([]sample, n)
	for forth := true; length > 0; length, forth = length-turnLength, !forth {
		for k := range n {
			i := k
			if !forth {
				i = n - 1 - k
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			s, err := turn(i, min(length, turnLength))
			if err != nil {
				return nil, err
			}
			sums[i].add(s)
		}
	}
	return sums, nil
}

// conditions says what was compared, and how.
func conditions(binary string, s settings) string {
	caddy := "an unknown version"
	if info, err := buildinfo.ReadFile(binary); err == nil {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/caddyserver/caddy/v2" {
				caddy = dep.Version
			}
		}
	}
	return fmt.Sprintf("Caddy %s, %s, %d CPUs, %d rounds of %v, a GET answered with %d bytes",
		caddy, runtime.Version(), runtime.NumCPU(), s.rounds, s.length, len(member))
}

// upstream is the API under way, as a process of its own.
type upstream struct {
	plain, secure string // host:port
	in            io.Writer
	out           *bufio.Reader
	stop          func()
}

func startUpstream(told listening) (*upstream, error) {
	cmd, err := as(upstreamRole)
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the upstream: %w", err)
	}
	u, err := meet(in, out, told)
	if err != nil {
		err = fmt.Errorf("starting the upstream: %w", err)
	}
	u.stop = func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
	if err != nil {
		u.stop()
	}
	return u, err
}

// meet tells an upstream its first line, and reads where it is.
func meet(in io.Writer, out io.Reader, told listening) (*upstream, error) {
	u := &upstream{in: in, out: bufio.NewReader(out)}
	if err := json.NewEncoder(in).Encode(told); err != nil {
		return u, err
	}
	_, err := fmt.Fscanln(u.out, &u.plain, &u.secure)
	return u, err
}

// ask tells the upstream something, and returns the number that it answers.
func (u *upstream) ask(format string, args ...any) (n int, err error) {
	if _, err := fmt.Fprintf(u.in, format+"\n", args...); err != nil {
		return 0, err
	}
	_, err = fmt.Fscanln(u.out, &n)
	return n, err
}

// load has this program make the requests of a job in a process of its own.
func load(j job) (s sample, err error) {
	cmd, err := as(loadRole)
	if err != nil {
		return s, err
	}
	in, err := json.Marshal(j)
	if err != nil {
		return s, err
	}
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, failed.Stderr)
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("reading what the load generator says: %w", err)
	}
	return s, nil
}
