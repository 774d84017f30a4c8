package rig

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/scopegate/scopegate/simulator"
)

// site begins the configuration of every gateway: an admin socket of its own,
// and one plain address.
const site = `{
	admin unix/{$DIR}/admin.sock|0200
	persist_config off
	auto_https off
}
http://{$ADDR} {
	bind 127.0.0.1
`

// caddyfile is the gateway of the benches: one team, whose credentials are in a
// store.
const caddyfile = site + `	scopegate {
		upstream {$UPSTREAM} {
			master_token {env.MASTER}
		}
		LINES
		team billing {
			scopes members.*
		}
		audit {
			output file {$DIR}/audit.jsonl
		}
	}
}
`

// Path is what the callers of the team ask for.
const Path = "/api/v1/members"

// World is what gateways run in: a folder, the binary, and a simulated API.
type World struct {
	Dir string
	API *simulator.Simulator

	binary   string
	upstream *httptest.Server
}

// NewWorld builds the binary and starts the API. Whoever gets one closes it.
func NewWorld(ctx context.Context) (*World, error) {
	dir, err := os.MkdirTemp("", "scopegate-bench-")
	if err != nil {
		return nil, err
	}
	binary, err := Build(ctx, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	api := simulator.New(simulator.Options{})
	return &World{dir, api, binary, httptest.NewServer(api)}, nil
}

// Close ends the API and removes the folder. The gateways have ended before.
func (w *World) Close() error {
	w.upstream.Close()
	return os.RemoveAll(w.Dir)
}

// Gateway starts a gateway with a folder of its own below the world's, and with
// lines of its own, such as `store sqlite {$DIR}/store.db` or another team.
// Each of env is NAME=value.
func (w *World) Gateway(ctx context.Context, name, lines string, env ...string) (*Gateway, error) {
	return start(ctx, w.binary, filepath.Join(w.Dir, name), strings.Replace(caddyfile, "LINES", lines, 1),
		append(env, "MASTER="+w.API.Master(), "UPSTREAM="+w.upstream.URL)...)
}
