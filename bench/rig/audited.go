package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/scopegate/scopegate/audit/logfile"
	"github.com/scopegate/scopegate/credential"
)

// audited is a gateway for benches of the audit log: one team that may read,
// change and mint, with one key, and what the bench says of the log.
const audited = site + `	scopegate {
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
		"MASTER="+w.API.Master(), "UPSTREAM="+w.upstream.URL, "HASH="+key.Verifier().String())
}

// Run runs a command of the binary as the gateway's user would, and returns
// what it prints.
func (g *Gateway) Run(ctx context.Context, args ...string) (string, error) {
	return run(ctx, g.binary, g.env, args...)
}

// Change asks a gateway to make a member, with a body of this many bytes: the
// audit log does not say what a body holds, but how long it was, so that each
// change of a bench has a length of its own by which its record is known.
func (g *Gateway) Change(ctx context.Context, key string, size int) (status int, err error) {
	text := fmt.Sprintf(`{"name":"m%d"}`, size)
	body := text + strings.Repeat(" ", max(0, size-len(text)))
	status, _, err = g.ask(ctx, key, http.MethodPost, "/api/v1/member", body)
	return status, err
}

// Mint asks a gateway for a token, and returns its id.
func (g *Gateway) Mint(ctx context.Context, key, name string) (id string, err error) {
	body := fmt.Sprintf(`{"name":%q,"expires_at":%q,"allowed_ips":["198.51.100.7"],"allowed_scopes":["members.read-all"]}`,
		name, time.Now().UTC().Add(7*24*time.Hour).Format(time.DateTime))
	status, said, err := g.ask(ctx, key, http.MethodPost, "/api/v1/token", body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("a mint answered %d: %s", status, said)
	}
	var made struct {
		ID string `json:"created_id"`
	}
	if err == nil {
		err = json.Unmarshal(said, &made)
	}
	return made.ID, err
}

// Delete asks a gateway to delete a token.
func (g *Gateway) Delete(ctx context.Context, key, id string) (status int, err error) {
	status, _, err = g.ask(ctx, key, http.MethodDelete, "/api/v1/token/"+id, "")
	return status, err
}

func (g *Gateway) ask(ctx context.Context, key, method, path, body string) (status int, said []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+g.Address+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := g.caller.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	said, err = io.ReadAll(resp.Body)
	return resp.StatusCode, said, err
}

// Changes returns the sizes of those that have arrived upstream since it was
// asked last. They are to be fewer than the simulator remembers.
func (w *World) Changes() (sizes []int64) {
	seen := w.API.Requests()
	w.API.Forget()
	for _, r := range seen {
		var body struct{ Name string }
		if r.Operation != "createMember" || json.Unmarshal(r.Body, &body) != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimPrefix(body.Name, "m"), 10, 64); err == nil {
			sizes = append(sizes, n)
		}
	}
	return sizes
}

// Recorded is what an audit log says of changes that rig made.
type Recorded struct {
	Decided map[int64]bool // by their size
	Open    int            // permitted, and neither ended nor lost
	Lost    int
	Revoked int // credentials
	Deleted int // tokens, each once: the ledger may delete one that a caller deletes
}

// Recorded reads the gateway's audit log.
func (g *Gateway) Recorded(ctx context.Context, path string) (r Recorded, err error) {
	r.Decided = map[int64]bool{}
	open, deleted := map[string]bool{}, map[string]bool{}
	sources, err := logfile.Sources(nil, path)
	if err != nil {
		return r, err
	}
	err = logfile.Scan(ctx, sources, func(b logfile.Block) logfile.Block { return b }, func(b logfile.Block) error {
		for line := range b.Lines() {
			var one struct {
				UUID, Phase, Operation, Decision, Change string
				RequestSize                              int64  `json:"request_size"`
				TokenID                                  string `json:"token_id"`
			}
			if json.Unmarshal(line.Text, &one) != nil {
				continue // a write broke off there
			}
			switch {
			case one.Phase == "decided" && one.Decision == "allow":
				open[one.UUID] = true
				if one.Operation == "createMember" {
					r.Decided[one.RequestSize] = true
				}
				if one.Change == "revoke" {
					r.Revoked++
				}
				if one.Operation == "revokeToken" {
					deleted[one.TokenID] = true
				}
				continue
			case one.Phase == "lost":
				r.Lost++
			}
			delete(open, one.UUID)
		}
		return nil
	}, logfile.Options{})
	r.Open, r.Deleted = len(open), len(deleted)
	return r, err
}
