package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/scopegate/scopegate/credential"
)

// place is where a contender runs, and what it has to know.
type place struct {
	dir      string // its files
	binary   string // the gateway's, which is Caddy's too
	address  string // host:port to listen on
	upstream string // host:port
	secure   bool   // HTTP/2 and TLS on both sides
	cert     string // files of the certificate and its key, for both sides;
	key      string // of one text with both
	both     string
	keys     ring
}

// contender is a way to put a proxy before the API.
type contender struct {
	name string
	// program is what has to be installed, "" for what is built here.
	program string
	command func(p place) (*exec.Cmd, error)
}

// How much garbage may lie about. Caddy leaves it to Go's rule; the gateway's binary
// has its own, which who builds it into another Caddy does not get.
const (
	asCaddy = "GOGC=100"
	asOurs  = "GOGC=" // empty, as if it were not set
)

// The contenders. What Caddy does by itself is asked of the gateway's binary,
// so that compiler and versions are the same.
var (
	bare      = contender{name: "reverse_proxy", command: caddy("", plainSite, asCaddy)}
	relaxed   = contender{name: "reverse_proxy, our GC", command: caddy("", plainSite, asOurs)}
	logged    = contender{name: "reverse_proxy+log", command: caddy("metrics", loggedSite, asCaddy)}
	keyed     = contender{name: "Caddy, 1,000 keys", command: caddy("", keyedSite, asCaddy)}
	keyedLog  = contender{name: "Caddy, keys+log", command: caddy("metrics", keyedLogSite, asCaddy)}
	byHand    = contender{name: "net/http", command: self}
	nginx     = contender{name: "nginx", program: "nginx", command: nginxCommand}
	haproxy   = contender{name: "HAProxy", program: "haproxy", command: haproxyCommand}
	scopegate = contender{name: "scopegate", command: caddy("", gatewaySite, asOurs)}
	within    = contender{name: "scopegate, Caddy's GC", command: caddy("", gatewaySite, asCaddy)}
)

// installed finds a program. Servers are often where only root looks.
func installed(program string) (path string, ok bool) {
	for _, name := range []string{program, "/usr/sbin/" + program, "/usr/local/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path, true
		}
	}
	return "", false
}

func (p place) file(name string) string { return filepath.Join(p.dir, name) }

func (p place) auditDir() string { return p.file("audit") }

func (p place) write(name, text string) (path string, err error) {
	path = p.file(name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// url is the upstream's.
func (p place) url() string {
	if p.secure {
		return "https://" + p.upstream
	}
	return "http://" + p.upstream
}

// caddy runs the binary with a Caddyfile of these global options and this site.
// The admin endpoint is there for profiles: see docs/performance.md.
func caddy(options string, site func(p place) string, collect string) func(p place) (*exec.Cmd, error) {
	return func(p place) (*exec.Cmd, error) {
		address, tls := "http://"+p.address, ""
		if p.secure {
			_, port, _ := strings.Cut(p.address, ":")
			address, tls = "https://"+serverName+":"+port, "tls "+p.cert+" "+p.key
		}
		file, err := p.write("Caddyfile", fmt.Sprintf(`{
	admin unix/%s|0200
	persist_config off
	auto_https off
	%s
	servers {
		protocols h1 h2
	}
}
%s {
	bind 127.0.0.1
	%s
	%s
}
`, p.file("admin.sock"), options, address, tls, site(p)))
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(p.binary, "run", "--config", file, "--adapter", "caddyfile") //nolint:noctx,gosec // ended by stop; the binary was built here
		cmd.Env = append(os.Environ(), "HOME="+p.dir, "XDG_DATA_HOME="+p.dir, "XDG_CONFIG_HOME="+p.dir, "MASTER_TOKEN="+master, collect)
		return cmd, nil
	}
}

// trust makes a transport trust the upstream's certificate.
func (p place) trust() string {
	if !p.secure {
		return ""
	}
	return "transport http {\ntls_trust_pool file " + p.cert + "\n}"
}

func plainSite(p place) string {
	return fmt.Sprintf("reverse_proxy %s {\n%s\n}", p.url(), p.trust())
}

func loggedSite(p place) string { return logTo(p) + plainSite(p) }

// logTo is an access log in a file. Rolled files are left as they are: see
// gatewaySite.
func logTo(p place) string {
	return "log {\noutput file " + p.file("access.log") + " {\nroll_uncompressed\n}\n}\n"
}

// keyedSite is the check of keys that a Caddyfile can do: `map` gives the team of
// a key, and who has none is refused. It is what the documentation of Caddy
// leads to for many values of one header, and the cheapest way that says who
// asks: a `handle` for each team costs six times as much, and one matcher with
// a thousand values costs the same and does not know the team.
func keyedSite(p place) string {
	var site strings.Builder
	site.WriteString("map {header.Authorization} {team} {\n")
	p.keys.each(func(key credential.Key, team string) { fmt.Fprintf(&site, "\"Bearer %s\" %s\n", key.Reveal(), team) })
	fmt.Fprintf(&site, `default none
	}
	@unknown vars {team} none
	respond @unknown 401
	reverse_proxy %s {
		header_up Authorization "Bearer {env.MASTER_TOKEN}"
		header_up X-Team {team}
	}`, p.url())
	return site.String()
}

// keyedLogSite also tells who asked for what: the nearest that a Caddyfile comes
// to what the gateway does for the same request.
func keyedLogSite(p place) string {
	return logTo(p) + "log_append team {team}\n" + keyedSite(p)
}

// gatewaySite is a gateway with all that a request can meet on its way: the
// addresses, a rate and a number in flight for the team and for the credential,
// all far from being reached, a store, the audit log and, as always, its own
// metrics, which tell more than those that Caddy's `metrics` turns on.
//
// Rolled audit files are left as they are. Caddy's default is to compress them,
// which is a price of keeping them: it comes in lumps of 100 MiB, whatever the
// requests were.
func gatewaySite(p place) string {
	var credentials strings.Builder
	p.keys.each(func(key credential.Key, team string) {
		fmt.Fprintf(&credentials, "credential %s {\nhash %s\nrate_limit 100000000 1m\nmax_in_flight 10000\n}\n", team, key.Verifier())
	})
	return fmt.Sprintf(`scopegate {
		upstream %s {
			master_token {env.MASTER_TOKEN}
			%s
		}
		store sqlite %s
		team bench {
			scopes members.read members.read-all token.*
			mint {
				scopes members.read-all
				allowed_ips 198.51.100.0/24
				max_ttl 30d
			}
			allowed_ips 127.0.0.0/8
			rate_limit 100000000 1m
			max_in_flight 10000
			%s
		}
		audit {
			output file %s/audit.jsonl {
				roll_uncompressed
			}
		}
	}`, p.url(), p.trust(), p.file("store.db"), &credentials, p.auditDir())
}

// self runs this program as the proxy in plain Go.
func self(p place) (*exec.Cmd, error) {
	cmd, err := as(plainRole)
	if err != nil {
		return nil, err
	}
	told := plainProxy{Address: p.address, Upstream: p.url(), Keys: map[string]string{}, Master: master}
	if p.secure {
		told.Cert, told.Key = p.cert, p.key
	}
	p.keys.each(func(key credential.Key, team string) { told.Keys[key.Reveal()] = team })
	text, err := json.Marshal(told)
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	go func() { _, _ = in.Write(text) }() // it stays open for as long as the process lives
	return cmd, nil
}

// nginxCommand keeps connections on both sides, which is not its default, and
// writes no access log.
func nginxCommand(p place) (*exec.Cmd, error) {
	program, _ := installed("nginx")
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	var teams strings.Builder
	p.keys.each(func(key credential.Key, team string) { fmt.Fprintf(&teams, "\"Bearer %s\" %s;\n", key.Reveal(), team) })
	file, err := p.write("nginx.conf", fmt.Sprintf(`daemon off;
user %s;
worker_processes auto;
pid %s/pid;
error_log %[2]s/error.log;
events {
	worker_connections 4096;
}
http {
	access_log off;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	map_hash_max_size 16384;
	map_hash_bucket_size 256;
	map $http_authorization $team {
		default "";
		%[3]s
	}
	upstream api {
		server %[4]s;
		keepalive 256;
		keepalive_requests 1000000000;
	}
	server {
		listen %[5]s;
		keepalive_requests 1000000000;
		location / {
			if ($team = "") {
				return 401;
			}
			proxy_pass http://api;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Authorization "Bearer %[6]s";
			proxy_set_header X-Team $team;
		}
	}
}
`, me.Username, p.dir, &teams, p.upstream, p.address, master))
	if err != nil {
		return nil, err
	}
	return exec.Command(program, "-p", p.dir, "-e", p.file("error.log"), "-c", file), nil //nolint:noctx // ended by stop
}

// haproxyCommand writes no log either.
func haproxyCommand(p place) (*exec.Cmd, error) {
	program, _ := installed("haproxy")
	var teams strings.Builder
	p.keys.each(func(key credential.Key, team string) { fmt.Fprintf(&teams, "%s %s\n", key.Reveal(), team) })
	keys, err := p.write("keys.map", teams.String())
	if err != nil {
		return nil, err
	}
	bind, server := p.address, p.upstream
	if p.secure {
		bind += " ssl crt " + p.both + " alpn h2"
		server += " ssl verify required ca-file " + p.cert + " alpn h2"
	}
	file, err := p.write("haproxy.cfg", fmt.Sprintf(`global
	maxconn 4096
defaults
	mode http
	timeout connect 5s
	timeout client 60s
	timeout server 60s
	http-reuse always
frontend callers
	bind %s
	http-request set-var(txn.team) http_auth_bearer,map_str(%s)
	http-request deny deny_status 401 unless { var(txn.team) -m found }
	http-request set-header Authorization "Bearer %s"
	http-request set-header X-Team %%[var(txn.team)]
	default_backend api
backend api
	server api %s
`, bind, keys, master, server))
	if err != nil {
		return nil, err
	}
	return exec.Command(program, "-db", "-f", file), nil //nolint:noctx // ended by stop
}

// as makes a command of this program in one of its roles.
func as(role string) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.Command(path, role), nil //nolint:noctx // it ends with its input
}
