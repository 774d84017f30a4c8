package scopegate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/credential"
)

// adminClient asks the admin API of a running gateway.
type adminClient struct {
	address, config, adapter string
	gateway, as              string

	http   *http.Client
	origin string // "" on a socket
}

// flags are those of every command that asks a running gateway.
func (a *adminClient) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.address, "address", "", "the admin endpoint, such as unix//run/scopegate/admin.sock; default: that of --config, or localhost:2019")
	configFlag(cmd, &a.config, "the configuration that the gateway runs, for its admin endpoint")
	cmd.Flags().StringVarP(&a.adapter, "adapter", "a", "", "config adapter; default: caddyfile, unless the file ends in .json")
	cmd.Flags().StringVar(&a.gateway, "gateway", "default", "name of the gateway")
	cmd.Flags().StringVar(&a.as, "as", systemUser(), "who asks, for the audit log, which notes it as claimed")
}

// systemUser is who runs the command or, behind sudo, who called it: the gateway's
// user is everybody's there, and in the log its name stands for the gateway itself.
func systemUser() string {
	if name := os.Getenv("SUDO_USER"); name != "" && validOperator(name) {
		return name
	}
	if u, err := user.Current(); err == nil && validOperator(u.Username) {
		return u.Username
	}
	return ""
}

// connect finds the admin endpoint or, where the configuration has none, the
// store.
func (a *adminClient) connect(cmd *cobra.Command) error {
	if a.http != nil {
		return nil
	}
	address, err := a.endpoint()
	if errors.Is(err, errAdminOff) {
		return a.bypass(cmd)
	}
	if err != nil {
		return err
	}
	where, err := caddy.ParseNetworkAddress(address)
	if err != nil || where.PortRangeSize() > 1 {
		return fmt.Errorf("the admin address %q cannot be read", address)
	}
	a.origin = "http://" + where.JoinHostPort(0)
	if where.IsUnixNetwork() {
		where.Host, _, _ = strings.Cut(where.Host, "|") // its mode
		a.origin = ""
	}
	a.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, where.Network, where.JoinHostPort(0))
		},
	}}
	return nil
}

// errKeyAsID keeps a key out of the path of a request, which Caddy logs.
var errKeyAsID = misused("that is a key, not an id: the id is the 12 characters behind its sgk_. Other users of the machine and the shell's history may have it now: rotate it with --overlap 0s")

var errAdminOff = errors.New("the configuration turns the admin endpoint off")

// bypass works on the store itself, and says so: what it does is recorded in
// another file, and nobody tells which replica has seen it.
func (a *adminClient) bypass(cmd *cobra.Command) error {
	d, err := (&configFlags{file: a.config, adapter: a.adapter, gateway: a.gateway}).one()
	if err != nil {
		return err
	}
	log, err := d.commandLog()
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s turns the admin endpoint off: working on the store itself, recorded in %s\n", a.config, log)
	a.http = &http.Client{Transport: d}
	return nil
}

// mend says what to do about an admin endpoint that does not answer.
func (a *adminClient) mend(err error) string {
	onSocket := a.origin == ""
	switch {
	case onSocket && errors.Is(err, fs.ErrPermission):
		return "; the socket is its owner's alone: run this as the gateway's user"
	case onSocket && errors.Is(err, fs.ErrNotExist):
		return "; no gateway runs with that socket"
	case onSocket && errors.Is(err, syscall.ECONNREFUSED):
		return "; nobody listens there any more: the gateway was killed, or a second one was started and took the socket from it. Restart it"
	}
	return ""
}

func (a *adminClient) endpoint() (string, error) {
	if a.address != "" || a.config == "" {
		return caddycmd.DetermineAdminAPIAddress(a.address, nil, "", "")
	}
	found, err := (&configFlags{file: a.config, adapter: a.adapter}).load()
	if err != nil {
		return "", err
	}
	admin := found[0].config.Admin
	switch {
	case admin != nil && admin.Disabled:
		return "", errAdminOff
	case admin != nil && admin.Listen != "":
		return admin.Listen, nil
	}
	return caddy.DefaultAdminListen, nil
}

// do sends a request, below the gateway's path, and reads a successful answer.
func (a *adminClient) do(cmd *cobra.Command, method, path string, body, into any) error {
	resp, err := a.send(cmd, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("reading the answer of the gateway: %w", err)
	}
	return nil
}

func (a *adminClient) send(cmd *cobra.Command, method, path string, body any) (*http.Response, error) {
	if strings.Contains(path, credential.Prefix) {
		return nil, errKeyAsID
	}
	if err := a.connect(cmd); err != nil {
		return nil, err
	}
	var in io.Reader = http.NoBody
	if body != nil {
		in = bytes.NewReader(encode(body))
	}
	host := a.origin
	if host == "" {
		host = "http://127.0.0.1"
	}
	req, err := http.NewRequestWithContext(cmd.Context(), method, host+"/scopegate/"+url.PathEscape(a.gateway)+path, in)
	if err != nil {
		return nil, err
	}
	if a.origin != "" {
		req.Header.Set("Origin", a.origin)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.as != "" {
		req.Header.Set(operatorHeader, a.as)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		var plain *url.Error
		if _, ok := a.http.Transport.(*direct); ok && errors.As(err, &plain) {
			return nil, plain.Err // nothing was sent anywhere
		}
		return nil, fmt.Errorf("asking the gateway, which must be running with its admin endpoint reachable (--address, --config or $"+configVariable+" say where): %w%s", err, a.mend(err))
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	p := new(problemError)
	if err := json.NewDecoder(resp.Body).Decode(p); err != nil || p.Detail == "" {
		return nil, fmt.Errorf("the admin endpoint answered %s", resp.Status)
	}
	return nil, p
}

// wait waits until every replica has seen a change, and tells of it.
func (a *adminClient) wait(cmd *cobra.Command, revision int64) error {
	resp, err := a.send(cmd, http.MethodPost, "/wait", map[string]int64{"revision": revision})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out := cmd.ErrOrStderr()
	dec := json.NewDecoder(resp.Body)
	for {
		var line struct {
			reportView
			Detail string `json:"detail"`
		}
		switch err := dec.Decode(&line); {
		case err == io.EOF:
			return errors.New("the gateway ended before every replica had answered")
		case err != nil:
			return fmt.Errorf("waiting for the replicas: %w", err)
		case line.Detail != "":
			return errors.New(line.Detail)
		case line.Done:
			fmt.Fprintf(out, "seen by %s\n", counted(len(line.Seen), "replica"))
			for _, r := range line.Seen {
				fmt.Fprintf(out, "  %s on %s\n", r.ID, r.Host)
			}
			for _, r := range line.RanOut {
				fmt.Fprintf(out, "not seen by %s on %s, which has been silent for so long that it serves nothing\n", r.ID, r.Host)
			}
			return nil
		}
		for _, r := range line.Waiting {
			fmt.Fprintf(out, "waiting for %s on %s, for %.0f s at most\n", r.ID, r.Host, line.Left)
		}
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// completionPatience is how long somebody who pressed a key waits for names.
const completionPatience = 2 * time.Second

// suggest asks for what a shell may offer. Where nothing answers in time it
// offers nothing.
func (a *adminClient) suggest(cmd *cobra.Command, path string, into any) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
	defer cancel()
	cmd.SetContext(ctx)
	_ = a.do(cmd, http.MethodGet, path, nil, into)
}

// completeTeams offers the team names of the running gateway.
func (a *adminClient) completeTeams(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var answer struct{ Teams []teamStatus }
	a.suggest(cmd, "/teams", &answer)
	var names []string
	for _, t := range answer.Teams {
		names = append(names, t.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeIDs offers the ids of stored credentials with their names.
func (a *adminClient) completeIDs(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var answer struct{ Credentials []credentialView }
	a.suggest(cmd, "/credentials?state=active,suspended", &answer)
	var ids []string
	for _, c := range answer.Credentials {
		ids = append(ids, c.ID+"\t"+c.Team+"/"+c.Name)
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
