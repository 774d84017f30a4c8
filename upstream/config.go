// Package upstream holds the master token and carries requests to the API
// behind the gateway. It decides what may come back: which statuses and
// headers, and nothing in which the master token occurs. It never decides
// whether a caller may ask; whoever calls Do has decided and recorded that.
package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

const (
	defaultTimeout     = 30 * time.Second
	defaultRetries     = 2
	maxRetries         = 10
	defaultMaxInFlight = 256
)

// Config says where the API is, what proves the gateway to it, and how long
// and how often it may be asked.
type Config struct {
	// Where the API is: scheme and host, such as
	// https://integration.goodaccess.com. Plain http is for loopback only.
	URL string `json:"url"`

	// The master token: exactly one placeholder, `{env.NAME}` or
	// `{file.PATH}`. The token itself, which is also what `{$NAME}` becomes,
	// is refused, since Caddy shows its configuration and saves it to disk.
	// A file is watched: a changed token is used without a reload.
	MasterToken string `json:"master_token,omitempty"`

	// A file that holds the master token, watched like `{file.PATH}`.
	MasterTokenFile string `json:"master_token_file,omitempty"`

	// Caddy's HTTP transport, with what would weaken the way to the API
	// refused. Default: TLS to an https URL, no proxy.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// How long one exchange may take in all: connecting, retries and the
	// whole answer. Default: 30s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How often a failed read is tried again; a change never is. Default: 2.
	Retries *int `json:"retries,omitempty"`

	// How many exchanges may run at once. Where there is more than one team,
	// none of them gets more than three quarters of these. Default: 256.
	MaxInFlight int `json:"max_in_flight,omitempty"`
}

// Validate checks all that can be checked without I/O and reports every
// mistake, not only the first.
func (c *Config) Validate() error {
	base, err := c.base()
	errs := []error{err}
	if base != nil {
		_, err = c.transport(base)
		errs = append(errs, err)
	}
	_, err = c.source()
	errs = append(errs, err)
	if c.Timeout < 0 {
		errs = append(errs, errors.New("upstream: timeout must not be negative"))
	}
	if r := c.retries(); r < 0 || r > maxRetries {
		errs = append(errs, fmt.Errorf("upstream: retries must be 0 to %d", maxRetries))
	}
	if c.MaxInFlight < 0 {
		errs = append(errs, errors.New("upstream: max_in_flight must not be negative"))
	}
	return errors.Join(errs...)
}

// Patience is how long a request may take, a read with all its retries.
func (c *Config) Patience() time.Duration {
	if c.Timeout == 0 {
		return defaultTimeout
	}
	return time.Duration(c.Timeout)
}

func (c *Config) retries() int {
	if c.Retries == nil {
		return defaultRetries
	}
	return *c.Retries
}

func (c *Config) maxInFlight() int {
	if c.MaxInFlight == 0 {
		return defaultMaxInFlight
	}
	return c.MaxInFlight
}

// base reads the URL. Whatever is more than scheme, host and port would have
// to be merged with the path that was decided, so it is refused.
func (c *Config) base() (*url.URL, error) {
	if c.URL == "" {
		return nil, errors.New("upstream: no url; write where the API is, such as https://integration.goodaccess.com")
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		// The error of url.Parse repeats the URL, which may hold a password.
		return nil, errors.New("upstream: the url cannot be read; write scheme and host, such as https://integration.goodaccess.com")
	}
	host := strings.ToLower(u.Hostname())
	switch {
	case u.User != nil:
		return nil, errors.New("upstream: the url holds a user or password; the master token is the only proof that is sent, remove it")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("upstream: the url must begin with https://")
	case !hostname(host) || strings.HasSuffix(u.Host, ":"):
		return nil, errors.New("upstream: the url names no usable host; write one such as integration.goodaccess.com, without placeholders")
	case strings.Trim(u.Path, "/") != "" || len(u.Path) > 1 || u.RawQuery != "" || u.ForceQuery || strings.Contains(c.URL, "#"):
		return nil, errors.New("upstream: the url has a path, query or fragment; write scheme and host alone, since the operations bring their paths")
	case u.Scheme == "http" && !loopback(host):
		return nil, fmt.Errorf("upstream: http to %s would send the master token in clear; write https, plain http is for loopback addresses only", host)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("upstream: the url's port %s is not one of 1 to 65535", port)
		}
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}, nil
}

// hostname reports whether a host is an address or made of the bytes that
// names in certificates are made of.
func hostname(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Zone() == ""
	}
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return strings.Trim(host, ".") != ""
}

// loopback reports whether a host is this machine whatever a resolver says,
// localhost apart, which RFC 6761 reserves for it.
func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}
