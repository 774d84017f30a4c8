package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/scopegate/scopegate/bench/rig"
	"github.com/scopegate/scopegate/store/storetest/pgtest"
)

// world is what the gateways run in, with the database that they share.
type world struct {
	*rig.World
	cluster *pgtest.Cluster
}

func newWorld(ctx context.Context) (*world, error) {
	say("building the gateway and starting a PostgreSQL cluster")
	w, err := rig.NewWorld(ctx)
	if err != nil {
		return nil, err
	}
	cluster, err := pgtest.Start()
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &world{w, cluster}, nil
}

func (w *world) close() error { return errors.Join(w.cluster.Close(), w.Close()) }

// gateways starts a fleet of two.
func (w *world) gateways(ctx context.Context, mode, option string) (one, two *rig.Gateway, err error) {
	start := func(name string) (*rig.Gateway, error) {
		return w.Gateway(ctx, mode+name, "store postgres {env.DATABASE_URL}"+option, "DATABASE_URL="+w.cluster.DSN("postgres"))
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
	got, err := g.Get(ctx, key, rig.Path)
	if err == nil && got != want {
		err = fmt.Errorf("answered %d, want %d", got, want)
	}
	return err
}
