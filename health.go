package scopegate

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// readyURL is what is asked where nothing else is said.
const readyURL = "http://127.0.0.1:8080/_scopegate/readyz"

func healthCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "health [<url>]",
		Short: "Asks a running gateway whether it is ready",
		Long: `Asks a probe of a running gateway, by default
http://127.0.0.1:8080/_scopegate/readyz, and exits 0 where it answers 200. It
serves as the health check of a container that has no shell. A URL without a path
means readyz. A unix socket is written unix:///run/scopegate/http.sock.`,
		Example: `  scopegate health
  scopegate health http://127.0.0.1:9000/_scopegate/livez`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := readyURL
			if len(args) == 1 {
				target = args[0]
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			status, err := probe(ctx, target)
			if err != nil && len(args) == 0 {
				return fmt.Errorf("%w; where the gateway listens elsewhere, give its URL", err)
			}
			if err != nil {
				return err
			}
			if status != http.StatusOK {
				return fmt.Errorf("%s answered %d%s", target, status, unhealthy[status])
			}
			fmt.Fprintln(cmd.OutOrStdout(), "ready")
			return nil
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long to wait")
	return cmd
}

// unhealthy says where to look, by the status that a probe was answered with.
var unhealthy = map[int]string{
	http.StatusServiceUnavailable: ": GET /scopegate/ on the admin endpoint, and the log, say why",
	http.StatusMisdirectedRequest: ": no site has that host; ask for one that the Caddyfile names",
}

func probe(ctx context.Context, target string) (int, error) {
	transport := &http.Transport{Proxy: nil}
	if path, ok := strings.CutPrefix(target, "unix://"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		target = "http://localhost/_scopegate/readyz"
	}
	u, err := url.ParseRequestURI(target)
	if err != nil || u.Host == "" {
		return 0, fmt.Errorf("%q is not a URL such as %s", target, readyURL)
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/_scopegate/readyz"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}
