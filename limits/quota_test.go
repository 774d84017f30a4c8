package limits_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scopegate/scopegate/limits"
)

type quotas = map[string]int

// reserve takes places until there is none, and returns them.
func reserve(p *limits.Plan, n int) (places []*limits.Place) {
	for range n {
		if place, ok := p.Reserve("billing", time.Now()); ok {
			places = append(places, place)
		}
	}
	return places
}

func TestReserveRejectsBeyondTheQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limits.NewBook().Plan(nil, quotas{"billing": 3, "none": 0})
		defer p.Close()
		places := reserve(p, 10)
		if len(places) != 3 {
			t.Fatalf("reserved %d, want 3", len(places))
		}
		if _, ok := p.Reserve("none", time.Now()); ok {
			t.Error("reserved a place in a quota of none")
		}
		for range 100 {
			if place, ok := p.Reserve("ops", time.Now()); !ok {
				t.Fatal("refused a team without a quota")
			} else {
				place.Keep(time.Now().Add(time.Hour))
				place.Release()
			}
		}

		places[0].Release() // no token was made
		places[1].Keep(time.Now().Add(time.Hour))
		places[2].Keep(time.Now().Add(2 * time.Hour))
		for _, place := range places {
			place.Release() // the deferred one: nothing after Keep or Release
			place.Keep(time.Now().Add(99 * time.Hour))
		}
		free := reserve(p, 10)
		if len(free) != 1 {
			t.Fatalf("%d places free, want the 1 released", len(free))
		}
		free[0].Release()

		time.Sleep(time.Hour) // its expiry itself is too late for a token
		if got := reserve(p, 10); len(got) != 2 {
			t.Errorf("%d places free after one expired, want 2", len(got))
		}
	})
}

func TestQuotaOutlivesReloads(t *testing.T) {
	tests := []struct {
		name  string
		after []quotas // reloads, one after the other
		want  int      // free places of the last
	}{
		{"unchanged", []quotas{{"billing": 5}}, 1},
		{"raised", []quotas{{"billing": 9}}, 5},
		{"lowered below what is alive", []quotas{{"billing": 2}}, 0},
		// The tokens of a team that was taken out still work at GoodAccess.
		{"taken out and put back", []quotas{{}, {"ops": 1}, {"billing": 5}}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				book := limits.NewBook()
				p := book.Plan(nil, quotas{"billing": 5})
				places := reserve(p, 4)
				for _, place := range places[:3] {
					place.Keep(time.Now().Add(time.Hour))
				}
				for _, q := range tt.after {
					next := book.Plan(nil, q)
					p.Close()
					p = next
				}
				if got := reserve(p, 20); len(got) != tt.want {
					t.Errorf("%d places free, want %d", len(got), tt.want)
				}
				// A mint under way when the configuration changed ends in the
				// same quota.
				places[3].Keep(time.Now().Add(time.Hour))
				time.Sleep(time.Hour)
				if got := reserve(p, 20); len(got) == 0 {
					t.Error("no place free after the tokens expired")
				}
				p.Close()
			})
		})
	}
}

// Many mints at once must not share the last place.
func TestReserveHoldsUnderConcurrency(t *testing.T) {
	const bound = 3
	p := limits.NewBook().Plan(nil, quotas{"billing": bound})
	defer p.Close()
	var inside, kept atomic.Int64
	var wg sync.WaitGroup
	now := time.Now()
	for range 16 {
		wg.Go(func() {
			for i := range 200 {
				place, ok := p.Reserve("billing", now)
				if !ok {
					continue
				}
				if n := inside.Add(1); n > bound {
					t.Errorf("%d places taken at once", n)
				}
				if i == 199 {
					kept.Add(1)
					place.Keep(now.Add(time.Hour))
					continue // and stays inside
				}
				inside.Add(-1)
				place.Release()
			}
		})
	}
	wg.Wait()
	if got := int64(len(reserve(p, 2*bound))); got != bound-kept.Load() {
		t.Errorf("%d places free, want %d", got, bound-kept.Load())
	}
}
