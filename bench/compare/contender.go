package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/scopegate/scopegate/credential"
)

// contender is one configuration of the binary. Its Caddyfile takes PORT,
// UPSTREAM, ADMIN and AUDIT from the environment, and what env adds.
type contender struct {
	name      string
	caddyfile string
	env       []string
}

// head is the same for all. The admin endpoint is there for profiles: see
// `curl --unix-socket` on its socket, /debug/pprof/.
const head = `{
	admin unix/{$ADMIN}|0200
	persist_config off
	auto_https off
}

http://127.0.0.1:{$PORT} {
	bind 127.0.0.1
`

// bare is the yardstick: Caddy's own proxy with its defaults.
var bare = contender{name: "reverse_proxy", caddyfile: head + `
	reverse_proxy {$UPSTREAM}
}
`}

// full is a gateway with all that a request can meet on its way: the addresses,
// a rate and a number in flight for the team and for the credential, both far
// from being reached, the audit log and, as always, the metrics.
//
// Rolled audit files are left as they are. Caddy's default is to compress them,
// which is a price of keeping them: it comes in lumps of 100 MiB, whatever the
// requests were.
func full(key credential.Key) contender {
	return contender{
		name: "scopegate",
		env: []string{
			"MASTER_TOKEN=master-token-of-the-benchmark",
			"HASH=" + key.ID() + ":" + key.Hash().String(),
		},
		caddyfile: head + `
	scopegate {
		upstream http://{$UPSTREAM} {
			master_token {env.MASTER_TOKEN}
		}
		team bench {
			scopes members.read members.read-all
			allowed_ips 127.0.0.0/8
			rate_limit 100000000 1m
			max_in_flight 10000
			credential load {
				hash {$HASH}
				rate_limit 100000000 1m
				max_in_flight 10000
			}
		}
		audit {
			output file {$AUDIT} {
				roll_uncompressed
			}
		}
	}
}
`,
	}
}

// path is that of an operation with an id in it, the dearer kind to match.
const path = "/api/v1/member/5f0c2a1e-7b1d-4c53-9a42-0b6b7c1d2e3f"

// request is what every contender is sent; the bare proxy passes the key on.
func request(address, key string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: compare\r\nAccept: application/json\r\n"+
		"Authorization: Bearer %s\r\n\r\n", path, address, key)
}

// audited counts the records in the files of the audit log, rolled ones too.
func audited(dir string) (records int, err error) {
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := os.ReadFile(filepath.Join(dir, name))
		// No client can write one of these: its quotes are escaped. The log's
		// own lines, such as checkpoints, have other phases.
		records += bytes.Count(file, []byte(`"phase":"decided"`)) + bytes.Count(file, []byte(`"phase":"ended"`))
		return err
	})
	return records, err
}
