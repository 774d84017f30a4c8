// Command fulldisk fills the disk of a gateway's audit log while callers read
// and change, and looks at what still works.
//
//	go run ./bench/fulldisk [-size 4] [-while 5s]
//
// The log is on a small tmpfs, which is mounted for this and so needs root.
// Callers read and change until it is full. While it is, nobody may be served,
// no change may arrive upstream, and deletions of tokens and revocations of
// credentials must work. Then
// the disk is given more room: service must return by itself, and the log, in
// which the revocations stand, must verify.
//
// The exit status is 1 where a change arrived without its record, a revocation
// did not work, service did not return, or the log does not verify; 2 where
// nothing could be measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/scopegate/scopegate/bench/rig"
	"github.com/scopegate/scopegate/credential"
)

func main() {
	size := flag.Int("size", 4, "size of the disk in MB")
	while := flag.Duration("while", 5*time.Second, "how long it stays full")
	flag.Parse()
	rig.Main("fulldisk", func(ctx context.Context) (bool, error) { return run(ctx, *size, *while) })
}

const (
	revocations = 50
	deletions   = 20
)

func run(ctx context.Context, size int, while time.Duration) (good bool, err error) {
	w, err := rig.NewWorld(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	disk := filepath.Join(w.Dir, "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		return false, err
	}
	options := func(mb int) string { return fmt.Sprintf("size=%dm", mb) }
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, options(size)); err != nil {
		return false, fmt.Errorf("mounting a tmpfs, which needs root: %w", err)
	}
	defer func() { err = errors.Join(err, syscall.Unmount(disk, 0)) }()

	key := credential.Generate()
	log := filepath.Join(disk, "audit.jsonl")
	g, err := w.Audited(ctx, "gateway", "output file "+log+" {\n roll_size 1GiB\n}\ncheckpoint 100 1s", key)
	if err != nil {
		return false, err
	}
	defer func() { g.Stop() }()
	ids, tokens, err := create(ctx, g, key.Reveal())
	if err != nil {
		return false, err
	}

	l := &load{g: g, w: w, key: key.Reveal()}
	l.size.Store(64)
	filling, stopped := context.WithCancel(ctx)
	defer stopped()
	l.start(filling)
	began := time.Now()
	if err := l.until(ctx, func(s sample) bool { return s.refused > 100 }); err != nil {
		return false, fmt.Errorf("filling the disk: %w", err)
	}
	fmt.Printf("fulldisk: full after %.1f s: served=%d changed=%d\n", time.Since(began).Seconds(), l.served.Load(), l.changed.Load())

	time.Sleep(200 * time.Millisecond) // what was under way has ended
	l.arrived()
	before := l.sample()
	revoked, deleted := 0, 0
	for _, id := range tokens {
		status, err := g.Delete(ctx, key.Reveal(), id)
		if err != nil || status != http.StatusOK {
			fmt.Printf("fulldisk: deleting %s: %d %v\n", id, status, err)
			continue
		}
		deleted++
	}
	for _, id := range ids {
		if err := g.Call(ctx, http.MethodPost, "default/credentials/"+id+"/revoke", map[string]string{"note": "leaked"}, nil); err != nil {
			fmt.Printf("fulldisk: revoking %s: %v\n", id, err)
			continue
		}
		revoked++
	}
	select {
	case <-time.After(while):
	case <-ctx.Done():
	}
	after := l.sample()
	during := l.arrived()
	fmt.Printf("fulldisk: while full: served=%d refused=%d changes_arrived=%d deleted=%d of %d revoked=%d of %d\n",
		after.served-before.served, after.refused-before.refused, during, deleted, len(tokens), revoked, len(ids))

	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, options(16*size)); err != nil {
		return false, err
	}
	room := time.Now()
	back := l.until(ctx, func(s sample) bool { return s.served > after.served+100 && s.changed > after.changed+100 })
	fmt.Printf("fulldisk: with room again: back=%v after %.2f s\n", back == nil, time.Since(room).Seconds())
	stopped()
	l.callers.Wait()
	l.arrived()
	g.Stop()

	recorded, err := g.Recorded(ctx, log)
	if err != nil {
		return false, err
	}
	unrecorded := 0
	for _, size := range l.seen {
		if !recorded.Decided[size] {
			unrecorded++
		}
	}
	said, verifyErr := g.Run(ctx, "audit", "verify", log)
	fmt.Print(said)
	fmt.Printf("fulldisk: changes_arrived=%d unrecorded=%d deletions_recorded=%d of %d revocations_recorded=%d of %d sound=%v\n",
		len(l.seen), unrecorded, recorded.Deleted, deleted, recorded.Revoked, revoked, verifyErr == nil)
	return unrecorded+during == 0 && deleted == len(tokens) && recorded.Deleted == deleted && revoked == len(ids) && recorded.Revoked == revoked && back == nil && verifyErr == nil, nil
}

// create makes the credentials that are to be revoked, and the tokens that are
// to be deleted.
func create(ctx context.Context, g *rig.Gateway, key string) (ids, tokens []string, err error) {
	for i := range deletions {
		id, err := g.Mint(ctx, key, fmt.Sprint("t", i))
		if err != nil {
			return nil, nil, err
		}
		tokens = append(tokens, id)
	}
	for i := range revocations {
		var made struct{ ID string }
		if err := g.Call(ctx, http.MethodPost, "default/credentials", map[string]string{"team": "billing", "name": fmt.Sprint("c", i)}, &made); err != nil {
			return nil, nil, err
		}
		ids = append(ids, made.ID)
	}
	return ids, tokens, nil
}

// load is callers that read and change.
type load struct {
	g    *rig.Gateway
	w    *rig.World
	key  string
	size atomic.Int64

	served, changed, refused atomic.Int64
	callers                  sync.WaitGroup
	seen                     []int64
}

type sample struct{ served, changed, refused int64 }

func (l *load) sample() sample {
	return sample{l.served.Load(), l.changed.Load(), l.refused.Load()}
}

func (l *load) start(ctx context.Context) {
	for i := range 8 {
		l.callers.Go(func() {
			for ctx.Err() == nil {
				l.once(ctx, i%2 == 0)
			}
		})
	}
}

func (l *load) once(ctx context.Context, read bool) {
	var status int
	var err error
	if read {
		status, err = l.g.Get(ctx, l.key, rig.Path)
	} else {
		status, err = l.g.Change(ctx, l.key, int(l.size.Add(1)))
	}
	switch {
	case err != nil:
	case status >= http.StatusInternalServerError:
		l.refused.Add(1)
		time.Sleep(5 * time.Millisecond) // as a client does
	case read:
		l.served.Add(1)
	default:
		l.served.Add(1)
		l.changed.Add(1)
	}
}

// until waits for something, and takes what arrives upstream meanwhile.
func (l *load) until(ctx context.Context, done func(sample) bool) error {
	late := time.After(60 * time.Second)
	for !done(l.sample()) {
		l.arrived()
		select {
		case <-late:
			return fmt.Errorf("not within a minute: %+v", l.sample())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// arrived takes the changes that have arrived upstream, and counts them.
func (l *load) arrived() int {
	sizes := l.w.Changes()
	l.seen = append(l.seen, sizes...)
	return len(sizes)
}
