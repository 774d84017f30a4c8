package rig

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/scopegate/scopegate/credential"
)

// minting is a gateway for benches of the ledger: two teams that make upstream
// tokens. It waits for upstream no longer than a bench has to.
const minting = site + `	scopegate {
		upstream {$UPSTREAM} {
			master_token {env.MASTER}
			timeout 5s
		}
		STORE
		reconcile 1m
		team red {
			scopes members.* token.*
			mint {
				scopes members.read-all
				allowed_ips 198.51.100.0/24
				max_ttl 30d
			}
			credential ci {
				hash {$RED}
			}
		}
		team blue {
			scopes members.* token.*
			mint {
				scopes members.read-all
				allowed_ips 198.51.100.0/24
				max_ttl 30d
			}
			credential ci {
				hash {$BLUE}
			}
		}
		audit {
			output file {$DIR}/audit.jsonl
		}
	}
}
`

// Minting starts a gateway with this line for its store, whose teams red and
// blue have these keys and may make tokens. Each of env is NAME=value.
func (w *World) Minting(ctx context.Context, name, store string, red, blue credential.Key, env ...string) (*Gateway, error) {
	return start(ctx, w.binary, filepath.Join(w.Dir, name), strings.Replace(minting, "STORE", store, 1), append(env,
		"MASTER="+w.API.Master(), "UPSTREAM="+w.upstream.URL, "RED="+red.Verifier().String(), "BLUE="+blue.Verifier().String())...)
}

// Token is what asks for a token of this name.
func Token(name string) string {
	return fmt.Sprintf(`{"name":%q,"allowed_scopes":["members.read-all"],"allowed_ips":["198.51.100.7"],"expires_at":%q}`,
		name, time.Now().UTC().Add(48*time.Hour).Format(time.DateTime))
}

// Answer is what a gateway answered.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Ask makes a request with a key and reads the whole answer.
func (g *Gateway) Ask(ctx context.Context, key, method, path, body string) (a Answer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+g.Address+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return a, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := g.caller.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.Status, a.Header = resp.StatusCode, resp.Header
	a.Body, err = io.ReadAll(resp.Body)
	return a, err
}
