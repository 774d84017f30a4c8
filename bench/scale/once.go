package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// window is how many requests are sent before the first answer is read. A
	// million of them one by one would take as long as all the rest.
	window = 64

	callers  = 16
	patience = 10 * time.Minute
)

// once asks a gateway with each key in turn who its caller is, which needs the
// credential and nothing of upstream.
func once(ctx context.Context, address string, keys []string) error {
	errs := make([]error, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() { errs[i] = onceEach(ctx, address, keys[len(keys)*i/callers:len(keys)*(i+1)/callers]) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func onceEach(ctx context.Context, address string, keys []string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	for len(keys) > 0 {
		some := keys[:min(window, len(keys))]
		keys = keys[len(some):]
		var out strings.Builder
		for _, key := range some {
			fmt.Fprintf(&out, "GET /_scopegate/v1/whoami HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", address, key)
		}
		if _, err := io.WriteString(conn, out.String()); err != nil {
			return err
		}
		for range some {
			if err := answered(in); err != nil {
				return err
			}
		}
	}
	return nil
}

func answered(in *bufio.Reader) error {
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("whoami answered %s", resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
