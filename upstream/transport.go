package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

const transportID = "http.reverse_proxy.transport.http"

// maxAnswerHeader bounds the header of one answer. Caddy's default is 10 MiB,
// which upstream could make the gateway hold once per exchange.
const maxAnswerHeader = 256 << 10

const handshakeTimeout = 10 * time.Second

// transport reads the configured transport, refuses what would weaken the way
// to the API, and sets what Caddy's defaults leave open. What it returns is
// what gets loaded: the configured JSON itself never is, so that no key which
// stands twice is checked in one reading and used in the other.
func (c *Config) transport(base *url.URL) (*reverseproxy.HTTPTransport, error) {
	h := new(reverseproxy.HTTPTransport)
	if len(c.TransportRaw) > 0 {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(c.TransportRaw, &fields); err != nil {
			return nil, fmt.Errorf("upstream: reading transport: %w", err)
		}
		var protocol string
		if json.Unmarshal(fields["protocol"], &protocol) != nil || protocol != "http" {
			return nil, errors.New("upstream: transport: only `transport http` is supported, since it alone is known to send a request as it was decided")
		}
		delete(fields, "protocol")
		rest, err := json.Marshal(fields)
		if err != nil {
			return nil, fmt.Errorf("upstream: reading transport: %w", err)
		}
		if err := caddy.StrictUnmarshalJSON(rest, h); err != nil {
			return nil, fmt.Errorf("upstream: reading transport: %w", err)
		}
	}
	if err := errors.Join(append(checkHTTP(h, base), checkTLS(h, base)...)...); err != nil {
		return nil, err
	}
	c.complete(h, base)
	return h, nil
}

// complete sets what Caddy's defaults leave open.
func (c *Config) complete(h *reverseproxy.HTTPTransport, base *url.URL) {
	if base.Scheme == "https" && h.TLS == nil {
		h.TLS = new(reverseproxy.TLSConfig)
	}
	if h.TLS != nil && h.TLS.HandshakeTimeout == 0 {
		// Caddy's default is none: a server that says nothing would keep the
		// connection being made long after whoever wanted it has given up.
		h.TLS.HandshakeTimeout = caddy.Duration(handshakeTimeout)
	}
	if len(h.NetworkProxyRaw) == 0 {
		// Caddy's default is HTTP(S)_PROXY: whoever sets a variable would
		// decide who carries the requests.
		h.NetworkProxyRaw = caddyconfig.JSON(map[string]string{"from": "none"}, nil)
	}
	off := false
	h.Compression = &off
	if h.MaxResponseHeaderSize == 0 {
		h.MaxResponseHeaderSize = maxAnswerHeader
	}
	// An exchange that ends must find room for its connection, or a busy
	// gateway would do a handshake for most requests.
	if h.KeepAlive == nil {
		h.KeepAlive = new(reverseproxy.KeepAlive)
	}
	if h.KeepAlive.MaxIdleConnsPerHost == 0 {
		h.KeepAlive.MaxIdleConnsPerHost = c.maxInFlight()
	}
}

// checkHTTP goes through every option of the transport. Those not named here
// are the operator's to choose: keep_alive, the dial, read, write and header
// timeouts and the buffers change only how long or how dear an exchange is,
// and local_address only which of the machine's own addresses it comes from.
func checkHTTP(h *reverseproxy.HTTPTransport, base *url.URL) refusals {
	var r refusals
	plain := base.Scheme == "http"

	r.add(plain && h.Resolver != nil, "resolvers",
		"a resolver could lead the plain http of a loopback name to another machine; use an address in the url, or https")
	r.add(h.Compression != nil && *h.Compression, "compression",
		"an encoded answer could not be searched for the master token; remove it")
	r.add(h.MaxConnsPerHost != 0, "max_conns_per_host",
		"whoever waits for a connection would hold a slot that others need; use max_in_flight of the upstream block, which no team can fill alone")
	r.add(h.ProxyProtocol != "", "proxy_protocol",
		"it tells upstream the caller's address, which is not part of what was decided; remove it")
	r.add(h.ForwardProxyURL != "", "forward_proxy_url",
		"it is deprecated in Caddy; use network_proxy")
	r.add(slices.Contains(h.Versions, "3"), "versions",
		"HTTP/3 is experimental in Caddy and dials past resolvers, local_address and network_proxy; use 1.1 and 2")
	r.add(slices.Contains(h.Versions, "h2c"), "versions",
		"h2c is HTTP/2 without TLS; use 1.1 and 2")

	if len(h.NetworkProxyRaw) > 0 {
		var p struct {
			From string `json:"from"`
		}
		// The two that Caddy has. Placeholders in the URL know no request, so
		// that a caller cannot choose the proxy (see outward).
		known := json.Unmarshal(h.NetworkProxyRaw, &p) == nil && (p.From == "url" || p.From == "none")
		r.add(!known, "network_proxy", "only `network_proxy url` and `network_proxy none` are supported")
		r.add(plain && known && p.From == "url", "network_proxy",
			"the proxy would see the master token of a plain http request; use https")
	}
	return r
}

// checkTLS goes through every option of the transport's TLS. Those not named
// here are the operator's to choose: which authorities are trusted, what the
// gateway proves itself with, the handshake's timeout and its curves; and
// renegotiation, in which Go holds the server to the certificate it had.
func checkTLS(h *reverseproxy.HTTPTransport, base *url.URL) refusals {
	if h.TLS == nil {
		return nil
	}
	if base.Scheme == "http" {
		return refusals{errors.New("upstream: transport: tls: the url says http, so it would not be used; write https in the url")}
	}
	var r refusals
	name := h.TLS.ServerName
	r.add(h.TLS.InsecureSkipVerify, "tls_insecure_skip_verify",
		"whoever answers would be given the master token; trust the right authority with tls_trust_pool")
	r.add(strings.ContainsAny(name, "{}"), "tls_server_name",
		"a placeholder is filled in for each request, so a caller might choose who is trusted; remove it")
	r.add(name != "" && !strings.ContainsAny(name, "{}") && !strings.EqualFold(name, base.Hostname()), "tls_server_name",
		"the certificate of another host than the url's would be trusted with the master token; write that host in the url")
	r.add(len(h.TLS.ExceptPorts) > 0, "tls_except_ports",
		"a port without TLS would get the master token in clear; remove it")
	return r
}

// refusals are the options that a configuration may not have.
type refusals []error

func (r *refusals) add(when bool, option, why string) {
	if when {
		*r = append(*r, fmt.Errorf("upstream: transport: %s: %s", option, why))
	}
}
