package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scopegate/scopegate/audit"
)

// mints measures the log by itself, in a folder of the file system that
// temporary files are on.
func mints(ctx context.Context, rounds int, length time.Duration, clients int) (ratio float64, err error) {
	dir, err := os.MkdirTemp("", "scopegate-bench-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	together, end, err := open(filepath.Join(dir, "together.jsonl"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, end()) }()
	each, end2, err := open(filepath.Join(dir, "each.jsonl"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, end2()) }()
	var one sync.Mutex
	return turns(ctx, "mints", rounds, [2]func() (float64, error){
		func() (float64, error) { return mint(together.WriteChange, together.Write, length, clients) },
		func() (float64, error) {
			return mint(func(r *audit.Record) error {
				one.Lock() // each waits for its own
				defer one.Unlock()
				return each.WriteChange(r)
			}, each.Write, length, clients)
		},
	})
}

func open(path string) (*audit.Log, func() error, error) {
	text, err := audit.NewKeys()
	if err != nil {
		return nil, nil, err
	}
	keys, err := audit.ParseKeys(text)
	if err != nil {
		return nil, nil, err
	}
	sink, err := audit.Open(audit.FileOptions{
		Path: path, Keys: keys, Records: audit.DefaultRecords, Every: audit.DefaultEvery, Durability: audit.Changes,
		Open: func() (io.WriteCloser, error) {
			return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		},
	})
	if err != nil {
		return nil, nil, err
	}
	log, err := audit.New(audit.Options{Gateway: "default", Durable: sink})
	if err != nil {
		return nil, nil, errors.Join(err, sink.Close())
	}
	return log, func() error { return errors.Join(log.Close(), sink.Close()) }, nil
}

// mint writes the records of mints for a time and returns how many a second:
// the one that must be on the disk, and the one of how it ended.
func mint(decided, ended func(*audit.Record) error, length time.Duration, clients int) (float64, error) {
	var n atomic.Int64
	failed := make(chan error, clients)
	until := time.Now().Add(length)
	var callers sync.WaitGroup
	for range clients {
		callers.Go(func() {
			r := audit.Record{
				UUID: "2f1c8f0e-6d0a-4b3a-9d53-1f6f3f4d2a10", Team: "billing", Credential: "4fQ9aaaaaaaa", ClientIP: "192.0.2.7",
				Operation: "createToken", Scope: "token.create", Decision: audit.Allow, Reason: "allowed",
				RequestedScopes: []string{"members.read"}, GrantedScopes: []string{"members.read"},
				ExpiresAt: "2027-01-31 00:00:00", AllowedIPs: []string{"203.0.113.0/24"},
			}
			for time.Now().Before(until) {
				r.Phase = audit.Decided
				err := decided(&r)
				if err == nil {
					r.Phase = audit.Ended
					err = ended(&r)
				}
				if err != nil {
					failed <- err
					return
				}
				n.Add(1)
			}
		})
	}
	callers.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
		return float64(n.Load()) / length.Seconds(), nil
	}
}
