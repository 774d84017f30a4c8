package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/simulator"
)

func demoCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Runs a gateway before a simulated GoodAccess and shows what it does",
		Long: `Starts the simulated GoodAccess API and a gateway from caddyfile.example, both on
loopback, with keys for two teams, and prints calls to try. Nothing outside of
this machine is reached, and nothing is left behind.

With --once it makes the calls itself, prints each with its answer, and exits 0
only if each came out as it should.`,
		Example: `  scopegate demo
  scopegate demo --once`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := startDemo()
			if err != nil {
				return err
			}
			defer d.stop()
			if once {
				return d.tour(cmd.Context(), cmd.OutOrStdout())
			}
			d.invite(cmd.OutOrStdout())
			ctx, cancel := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer cancel()
			<-ctx.Done()
			return nil
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "make the calls, print the answers, and end")
	return cmd
}

// demo is a simulated GoodAccess with a gateway before it.
type demo struct {
	simulator, gateway, metrics string // where each listens
	auditFile                   string
	keys                        map[string]credential.Key // by team
	close                       []func()
}

func (d *demo) stop() {
	for _, stop := range slices.Backward(d.close) {
		stop()
	}
}

// startDemo runs caddyfile.example as it is; only the words that it takes
// from the environment are set.
func startDemo() (_ *demo, err error) {
	d := &demo{keys: map[string]credential.Key{}}
	defer func() {
		if err != nil {
			d.stop()
		}
	}()
	dir, err := os.MkdirTemp("", "scopegate-demo-")
	if err != nil {
		return nil, err
	}
	d.close = append(d.close, func() { _ = os.RemoveAll(dir) })

	sim := simulator.New(simulator.Options{})
	url, stop, err := serveLoopback("127.0.0.1:0", sim)
	if err != nil {
		return nil, err
	}
	d.simulator, d.close = url, append(d.close, stop)

	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	d.gateway, d.metrics = "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]
	d.auditFile = filepath.Join(dir, "audit.jsonl")
	env := map[string]string{
		"GOODACCESS_MASTER_TOKEN": sim.Master(),
		"SCOPEGATE_UPSTREAM":      d.simulator,
		"SCOPEGATE_PORT":          ports[0],
		"SCOPEGATE_METRICS_PORT":  ports[1],
		"SCOPEGATE_ADMIN":         filepath.Join(dir, "admin.sock"),
		"SCOPEGATE_AUDIT":         d.auditFile,
		"XDG_DATA_HOME":           dir, // of the store
	}
	for team, variable := range map[string]string{"billing": "BILLING_HASH", "monitoring": "MONITORING_HASH"} {
		key := credential.Generate()
		d.keys[team] = key
		env[variable] = key.ID() + ":" + key.Hash().String()
	}
	for name, value := range env {
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	config, err := quiet(scopegate.ExampleCaddyfile)
	if err != nil {
		return nil, err
	}
	if err := caddy.Load(config, true); err != nil {
		return nil, fmt.Errorf("starting the gateway: %w", err)
	}
	d.close = append(d.close, func() { _ = caddy.Stop() })
	return d, nil
}

// quiet adapts a Caddyfile and lets Caddy log errors only, so that the tour
// can be read.
func quiet(file []byte) ([]byte, error) {
	raw, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(file, map[string]any{"filename": "caddyfile.example"})
	if err != nil {
		return nil, err
	}
	config := new(caddy.Config)
	if err := json.Unmarshal(raw, config); err != nil {
		return nil, err
	}
	config.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}},
	}}
	return json.Marshal(config)
}

// freePorts finds ports that nobody listens on at the moment.
func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		addr, ok := ln.Addr().(*net.TCPAddr)
		if !ok {
			return nil, fmt.Errorf("listening on %v", ln.Addr())
		}
		ports = append(ports, strconv.Itoa(addr.Port))
	}
	return ports, nil
}

// invite prints calls to try.
func (d *demo) invite(w io.Writer) {
	billing, monitoring := d.keys["billing"].Reveal(), d.keys["monitoring"].Reveal()
	fmt.Fprintf(w, `simulated GoodAccess   %s
gateway                %s
metrics                %s/metrics
audit log              %s

# a permitted call
curl -s -H 'Authorization: Bearer %s' %s/api/v1/members

# what a credential may do
curl -s -H 'Authorization: Bearer %s' %s/_scopegate/v1/whoami

`, d.simulator, d.gateway, d.metrics, d.auditFile, billing, d.gateway, monitoring, d.gateway)
	for _, s := range []struct{ what, body string }{
		{"a refused mint: it asks for a scope beyond the grant", d.mint("members.delete")},
		{"an accepted mint", d.mint("members.read-all")},
	} {
		fmt.Fprintf(w, "# %s\ncurl -s -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' \\\n    -d '%s' %s/api/v1/token\n\n",
			s.what, billing, s.body, d.gateway)
	}
	fmt.Fprintf(w, "# the audit records\ncat %s\n\n# the metrics\ncurl -s %s/metrics | grep ^scopegate_\n\nCtrl-C ends the demo.\n", d.auditFile, d.metrics)
}

// call makes one request of the tour.
func (d *demo) call(ctx context.Context, method, url, bearer string, body io.Reader, header ...string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, nil, err
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}
