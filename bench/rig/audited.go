package rig

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/scopegate/scopegate/credential"
)

// audited is a gateway for benches of the audit log: one team that may read,
// change and mint, with one key, and what the bench says of the log.
const audited = `{
	admin unix/{$DIR}/admin.sock|0200
	persist_config off
	auto_https off
}
http://{$ADDR} {
	bind 127.0.0.1
	scopegate {
		upstream {$UPSTREAM} {
			master_token {env.MASTER}
		}
		store sqlite {$DIR}/store.db
		team billing {
			scopes members.* token.*
			mint {
				scopes members.read-all
				allowed_ips 198.51.100.0/24
				max_ttl 30d
			}
			credential ci {
				hash {$HASH}
			}
		}
		audit {
			AUDIT
		}
	}
}
`

// Audited starts a gateway whose audit block holds these lines, and whose one
// key this is.
func (w *World) Audited(ctx context.Context, name, block string, key credential.Key) (*Gateway, error) {
	return start(ctx, w.binary, filepath.Join(w.Dir, name), strings.Replace(audited, "AUDIT", block, 1),
		"MASTER="+w.master, "UPSTREAM="+w.upstream.URL, "HASH="+key.Verifier().String())
}

// Run runs a command of the binary as the gateway's user would, and returns
// what it prints.
func (g *Gateway) Run(ctx context.Context, args ...string) (string, error) {
	return run(ctx, g.binary, g.env, args...)
}
