package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/simulator"
)

func simulateCommand() *cobra.Command {
	var listen, tokenFile, shape string
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Runs a stand-in for the GoodAccess API on loopback",
		Long: `Runs a stand-in for the GoodAccess API: all of its known operations over state
in memory, with tokens that really work and really are limited. It is for trying
a gateway and for offline tests. What it does where GoodAccess is not documented
is the most dangerous thing that GoodAccess could do.`,
		Example: `  scopegate simulate
  scopegate simulate --listen 127.0.0.1:9000 --master-token-file token.txt --shape data`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options := simulator.Options{}
			if tokenFile != "" {
				text, err := os.ReadFile(tokenFile)
				if err != nil {
					return fmt.Errorf("reading the master token: %w", err)
				}
				options.MasterToken = strings.TrimSpace(string(text))
			}
			switch shape {
			case "bare":
				options.Shape = simulator.Bare
			case "data":
				options.Shape = simulator.Data
			case "items":
				options.Shape = simulator.Items
			default:
				return fmt.Errorf("--shape %q: expected bare, data or items", shape)
			}
			sim := simulator.New(options)
			url, stop, err := serveLoopback(listen, sim)
			if err != nil {
				return err
			}
			defer stop()
			say(cmd, "simulated GoodAccess API at %s", url)
			if tokenFile == "" {
				say(cmd, "master token: %s", sim.Master())
			}
			ctx, cancel := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer cancel()
			<-ctx.Done()
			return nil
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "loopback address to listen on; port 0 takes a free one")
	cmd.Flags().StringVar(&tokenFile, "master-token-file", "", "file with the master token; default: make one and print it")
	cmd.Flags().StringVar(&shape, "shape", "bare", "how lists and objects are wrapped: bare, data or items")
	return cmd
}

// serveLoopback serves a handler on a loopback address until stop is called.
func serveLoopback(address string, h http.Handler) (url string, stop func(), err error) {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return "", nil, fmt.Errorf("%q is not a loopback address and port such as 127.0.0.1:9000: the simulator is not for networks", address)
	}
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := srv.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "simulator:", err)
		}
	}()
	return "http://" + ln.Addr().String(), func() { _ = srv.Close() }, nil
}
