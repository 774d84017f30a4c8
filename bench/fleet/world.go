package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/scopegate/scopegate/bench/rig"
	"github.com/scopegate/scopegate/simulator"
	"github.com/scopegate/scopegate/store/storetest/pgtest"
)

const caddyfile = `{
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
		store postgres {env.DATABASE_URL}OPTION
		team billing {
			scopes members.* groups.read-all
		}
		audit {
			output file {$DIR}/audit.jsonl
		}
	}
}
http://{$ADDR}/metrics {
	bind 127.0.0.1
	metrics
}
`

// path is what callers ask for.
const path = "/api/v1/members"

// world is what the gateways run in.
type world struct {
	dir      string
	binary   string
	cluster  *pgtest.Cluster
	upstream *httptest.Server
	master   string
}

func newWorld(ctx context.Context) (*world, error) {
	dir, err := os.MkdirTemp("", "scopegate-fleet-")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir}
	say("building the gateway and starting a PostgreSQL cluster")
	if w.binary, err = rig.Build(ctx, dir); err != nil {
		return nil, errors.Join(err, w.close())
	}
	if w.cluster, err = pgtest.Start(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	sim := simulator.New(simulator.Options{})
	w.upstream, w.master = httptest.NewServer(sim), sim.Master()
	return w, nil
}

func (w *world) close() error {
	var err error
	if w.cluster != nil {
		err = w.cluster.Close()
	}
	if w.upstream != nil {
		w.upstream.Close()
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// gateways starts a fleet of two.
func (w *world) gateways(ctx context.Context, mode, option string) (one, two *rig.Gateway, err error) {
	start := func(name string) (*rig.Gateway, error) {
		return rig.Start(ctx, w.binary, filepath.Join(w.dir, mode+name), strings.Replace(caddyfile, "OPTION", option, 1),
			"MASTER="+w.master, "UPSTREAM="+w.upstream.URL, "DATABASE_URL="+w.cluster.DSN("postgres"))
	}
	if one, err = start("one"); err != nil {
		return nil, nil, err
	}
	if two, err = start("two"); err != nil {
		one.Stop()
		return nil, nil, err
	}
	return one, two, nil
}

// made is a credential, as the admin API answers when it makes one.
type made struct {
	ID       string `json:"id"`
	Key      string `json:"key"`
	Revision int64  `json:"revision"`
}

func create(ctx context.Context, g *rig.Gateway, name string) (c made, err error) {
	err = g.Call(ctx, http.MethodPost, "default/credentials", map[string]string{"team": "billing", "name": name}, &c)
	return c, err
}

// expect makes a request and is an error where it is not answered so.
func expect(ctx context.Context, g *rig.Gateway, key string, want int) error {
	got, err := g.Get(ctx, key, path)
	if err == nil && got != want {
		err = fmt.Errorf("answered %d, want %d", got, want)
	}
	return err
}
