package upstream_test

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/scopegate/scopegate/upstream"
)

const api = "https://integration.goodaccess.com"

func TestValidateRejectsURLs(t *testing.T) {
	for _, c := range []struct{ name, url, want string }{
		{"none", "", "no url"},
		{"no scheme", "integration.goodaccess.com", "must begin with https://"},
		{"another scheme", "ftp://integration.goodaccess.com", "must begin with https://"},
		{"clear text to another machine", "http://integration.goodaccess.com", "in clear"},
		{"clear text to what looks like loopback", "http://127.0.0.1.example.com", "in clear"},
		{"clear text to a short spelling of loopback", "http://127.1", "in clear"},
		{"clear text to a name below localhost", "http://api.localhost", "in clear"},
		{"a user", "https://me:hunter22@integration.goodaccess.com", "user or password"},
		{"a user of an odd host", "https://integration.goodaccess.com@evil.example", "user or password"},
		{"a path", api + "/api/v1", "has a path"},
		{"two slashes", api + "//", "has a path"},
		{"a query", api + "?x=1", "has a path, query"},
		{"an empty query", api + "?", "has a path, query"},
		{"a fragment", api + "#", "has a path, query"},
		{"no host", "https://", "no usable host"},
		{"dots alone", "https://..", "no usable host"},
		{"an empty port", api + ":", "no usable host"},
		{"a port out of range", api + ":65536", "port"},
		{"port zero", api + ":0", "port"},
		{"a placeholder", "https://{env.HOST}", "cannot be read"},
		{"a placeholder for all of it", "{env.URL}", "must begin with https://"},
		{"a zone", "http://[::1%25lo]", "no usable host"},
		{"a name beyond ASCII", "https://goodaccess.cöm", "no usable host"},
		{"an unreadable one with a password", "https://me:hunter22@%zz", "cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := (&upstream.Config{URL: c.url, MasterToken: "{env.X}"}).Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q: got %v, want %q", c.url, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter22") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestValidateAcceptsURLs(t *testing.T) {
	for _, url := range []string{
		api, api + "/", api + ":8443", "HTTPS://Integration.GoodAccess.com", "https://10.0.0.7",
		"http://127.0.0.1:8080", "http://127.9.8.7", "http://[::1]:80", "http://localhost:1",
		"http://LOCALHOST", "http://[::ffff:127.0.0.1]",
	} {
		if err := (&upstream.Config{URL: url, MasterToken: "{env.X}"}).Validate(); err != nil {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// The way to the API may be tuned but not weakened: each of these would hand
// the master token to another party, or hide from the gateway what it does.
func TestValidateRejectsTransports(t *testing.T) {
	tls := func(option string, value any) map[string]any {
		return map[string]any{"tls": map[string]any{option: value}}
	}
	for _, c := range []struct {
		name, url, want string
		fields          map[string]any
	}{
		{"no verification", api, "tls_insecure_skip_verify", tls("insecure_skip_verify", true)},
		{"a foreign name", api, "tls_server_name", tls("server_name", "evil.example")},
		{"a placeholder for the name", api, "tls_server_name", tls("server_name", "{http.request.host}")},
		{"ports without TLS", api, "tls_except_ports", tls("except_ports", []string{"443"})},
		{"HTTP/3", api, "HTTP/3", map[string]any{"versions": []string{"3"}}},
		{"HTTP/3 beside others", api, "HTTP/3", map[string]any{"versions": []string{"1.1", "3"}}},
		{"h2c", "http://127.0.0.1", "h2c", map[string]any{"versions": []string{"h2c", "2"}}},
		{"compression", api, "compression", map[string]any{"compression": true}},
		{"connections bounded", api, "max_in_flight", map[string]any{"max_conns_per_host": 4}},
		{"the PROXY protocol", api, "proxy_protocol", map[string]any{"proxy_protocol": "v2"}},
		{"the old proxy option", api, "network_proxy", map[string]any{"forward_proxy_url": "http://127.0.0.1:1"}},
		{"an unknown proxy source", api, "network_proxy", map[string]any{"network_proxy": map[string]any{"from": "caller"}}},
		{"a proxy that sees all", "http://127.0.0.1", "network_proxy", map[string]any{"network_proxy": map[string]any{"from": "url", "url": "http://127.0.0.1:1"}}},
		{"a resolver for loopback", "http://localhost", "resolvers", map[string]any{"resolver": map[string]any{"addresses": []string{"127.0.0.1:53"}}}},
		{"TLS that would not be used", "http://127.0.0.1", "the url says http", map[string]any{"tls": map[string]any{}}},
		{"a typo", api, "unknown field", map[string]any{"dial_timout": "1s"}},
		{"a typo in tls", api, "unknown field", tls("insecure_skip_verfy", true)},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := (&upstream.Config{URL: c.url, MasterToken: "{env.X}", TransportRaw: transport(c.fields)}).Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	for name, raw := range map[string]string{
		"another transport": `{"protocol":"fastcgi"}`,
		"no protocol":       `{}`,
		"null":              `null`,
		"no object":         `[]`,
		"cut off":           `{"protocol":"http"`,
		// Which of the two a parser takes must not matter.
		"a key that stands twice": `{"protocol":"http","tls":{},"tls":{"insecure_skip_verify":true}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if err := (&upstream.Config{URL: api, MasterToken: "{env.X}", TransportRaw: []byte(raw)}).Validate(); err == nil {
				t.Errorf("%s: accepted", raw)
			}
		})
	}
}

func TestValidateAcceptsTransports(t *testing.T) {
	for _, fields := range []map[string]any{
		{},
		{"tls": map[string]any{"server_name": "INTEGRATION.goodaccess.com"}},
		{"tls": map[string]any{"curves": []string{"x25519"}, "renegotiation": "once"}},
		{"versions": []string{"1.1"}, "dial_timeout": "1s", "read_timeout": "2s", "local_address": "127.0.0.1"},
		{"compression": false, "keep_alive": map[string]any{"max_idle_conns_per_host": 1}},
		{"network_proxy": map[string]any{"from": "url", "url": "http://127.0.0.1:3128"}},
		{"network_proxy": map[string]any{"from": "none"}},
		{"resolver": map[string]any{"addresses": []string{"127.0.0.1:53"}}},
	} {
		c := &upstream.Config{URL: api, MasterToken: "{env.X}", TransportRaw: transport(fields)}
		if err := c.Validate(); err != nil {
			t.Errorf("%v: %v", fields, err)
		}
	}
}

func TestValidateRejectsTokenSources(t *testing.T) {
	const secret = "s3cret-of-GoodAccess"
	for _, c := range []struct {
		name, token, file, want string
	}{
		{"none", "", "", "no master token"},
		{"two", "{env.X}", "/run/x", "keep one of the two"},
		{"a literal, or what {$X} became", secret, "", "is not a placeholder but a literal"},
		{"a literal with an end like one", secret + "}", "", "literal"},
		{"{$X} in JSON", "{$" + secret + "}", "", "only the Caddyfile knows"},
		{"something before it", "Bearer {env.X}", "", "literal"},
		{"something behind it", "{env.X} ", "", "literal"},
		{"two placeholders", "{env.A}{env.B}", "", "more than one"},
		{"one within another", "{file.{env.A}}", "", "more than one"},
		{"a default", "{env.X:" + secret + "}", "", "default"},
		{"a default of a file", "{file./run/x:" + secret + "}", "", "default"},
		{"no name", "{env.}", "", "names no environment variable"},
		{"a name with a space", "{env.A B}", "", "names no environment variable"},
		{"no path", "{file.}", "", "names no file"},
		{"a placeholder of requests", "{http.request.header.X}", "", "other than"},
		{"an escaped one", `\{env.X\}`, "", "literal"},
		{"an unknown one", "{" + secret + "}", "", "other than"},
		{"empty braces", "{}", "", "other than"},
		{"a path with a placeholder", "", "{env.X}", "plain path"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := (&upstream.Config{URL: api, MasterToken: c.token, MasterTokenFile: c.file}).Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells what was written: %v", err)
			}
		})
	}
}

func TestValidateReportsEveryMistake(t *testing.T) {
	retries := 11
	err := (&upstream.Config{URL: "x", Timeout: caddy.Duration(-1), Retries: &retries, MaxInFlight: -1}).Validate()
	for _, want := range []string{"https://", "no master token", "timeout", "retries", "max_in_flight"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// FuzzPlaceholder holds that nothing but one placeholder for one variable or
// file is taken, and that no error repeats what was written.
func FuzzPlaceholder(f *testing.F) {
	for _, s := range []string{"{env.X}", "{file./run/x}", "{$X}", "{env.X:y}", "token", "{env.A}{env.B}", "{", "}", "{}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		err := (&upstream.Config{URL: api, MasterToken: s}).Validate()
		if err != nil {
			if len(s) > 12 && strings.Contains(err.Error(), s) {
				t.Fatalf("the error repeats %q", s)
			}
			return
		}
		inner := strings.TrimSuffix(strings.TrimPrefix(s, "{"), "}")
		if len(inner) != len(s)-2 || strings.ContainsAny(inner, "{}") ||
			!strings.HasPrefix(inner, "env.") && !strings.HasPrefix(inner, "file.") {
			t.Fatalf("took %q", s)
		}
	})
}
