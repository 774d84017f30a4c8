package credential_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/store"
)

var client = netip.MustParseAddr("192.0.2.7")

func usage(t testing.TB, m *memory) *credential.Usage {
	t.Helper()
	return credential.NewUsage(m, func(err error) { t.Errorf("told of %v", err) })
}

func TestUsageKeepsTheLastUse(t *testing.T) {
	m := newMemory()
	u := usage(t, m)
	a, b := credential.Generate().ID(), credential.Generate().ID()
	u.Note(a, now, client, "listMembers")
	u.Note(a, now.Add(time.Second), client, "getMember")
	u.Note(a, now.Add(-time.Second), client, "createToken") // a slower request ends later
	u.Note(b, now, netip.Addr{}, "listMembers")
	u.Note("no id", now, client, "listMembers")
	if err := u.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[string]store.Use{
		a: {At: now.Add(time.Second), Address: "192.0.2.7", Operation: "getMember"},
		b: {At: now, Operation: "listMembers"},
	}
	if diff := cmp.Diff(want, m.uses); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := u.Flush(t.Context()); err != nil || m.writes != 1 {
		t.Errorf("%d writes, %v", m.writes, err)
	}
}

// away is a store that something happens to before it answers, once, that it
// could not write.
type away struct {
	*memory
	meanwhile func()
}

func (a *away) Used(ctx context.Context, uses map[string]store.Use) error {
	if happens := a.meanwhile; happens != nil {
		a.meanwhile = nil
		happens()
		return errors.New("no route to host")
	}
	return a.memory.Used(ctx, uses)
}

// What could not be written is kept, and is not put in the place of what was
// noted since.
func TestUsageKeepsWhatWasNotWritten(t *testing.T) {
	st := &away{memory: newMemory()}
	u := credential.NewUsage(st, nil)
	a, b := credential.Generate().ID(), credential.Generate().ID()
	st.meanwhile = func() { u.Note(a, now.Add(time.Minute), client, "two") }
	u.Note(a, now, client, "one")
	u.Note(b, now, client, "one")
	if err := u.Flush(t.Context()); err == nil || len(st.uses) > 0 {
		t.Fatalf("%v, %v", err, st.uses)
	}
	if err := u.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st.uses[a].Operation != "two" || st.uses[b].Operation != "one" {
		t.Errorf("%+v", st.uses)
	}
}

func TestUsageIsBounded(t *testing.T) {
	m := newMemory()
	u := usage(t, m)
	for i := range 2 * credential.UsageMax {
		u.Note(fmt.Sprintf("%012d", i), now, client, "listMembers")
	}
	if err := u.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(m.uses); n > credential.UsageMax || n < credential.UsageMax*9/10 {
		t.Errorf("%d are remembered", n)
	}
	if most := credential.UsageMax/1000 + 1; m.writes > most {
		t.Errorf("%d writes, want no more than %d", m.writes, most)
	}
	// What was forgotten is noted at its next use.
	for i := range 2 * credential.UsageMax {
		if id := fmt.Sprintf("%012d", i); m.uses[id].At.IsZero() {
			u.Note(id, now, client, "listMembers")
		}
	}
	if err := u.Flush(t.Context()); err != nil || len(m.uses) < credential.UsageMax*18/10 {
		t.Errorf("%d, %v", len(m.uses), err)
	}
}

// Many note and flush at once; the last use of each is what is left.
func TestUsageNeverGoesBackwards(t *testing.T) {
	m := newMemory()
	u := usage(t, m)
	ids := []string{credential.Generate().ID(), credential.Generate().ID(), credential.Generate().ID()}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 2_000 {
				u.Note(ids[i%len(ids)], now.Add(time.Duration(i)*time.Second), client, "listMembers")
				if i%100 == 0 {
					if err := u.Flush(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := u.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		last := 1_999 - (1_999-i)%len(ids)
		if want := now.Add(time.Duration(last) * time.Second); !m.uses[id].At.Equal(want) {
			t.Errorf("%d: %s, want %s", i, m.uses[id].At, want)
		}
	}
	if got := slices.Sorted(maps.Keys(m.uses)); !slices.Equal(got, slices.Sorted(slices.Values(ids))) {
		t.Errorf("%v", got)
	}
}

func TestUsageIsFlushedEachMinuteAndInTheEnd(t *testing.T) {
	defer goleak.VerifyNone(t)
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var told []error
		u := credential.NewUsage(m, func(err error) { told = append(told, err) })
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { u.Run(ctx) })
		id := credential.Generate().ID()
		is := func(want string) {
			t.Helper()
			synctest.Wait()
			m.mu.Lock()
			defer m.mu.Unlock()
			if got := m.uses[id].Operation; got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		u.Note(id, time.Now(), client, "one")
		time.Sleep(59 * time.Second)
		is("")
		time.Sleep(time.Second)
		is("one")

		m.fail(errors.New("no route to host"))
		u.Note(id, time.Now(), client, "two")
		time.Sleep(time.Minute)
		is("one")
		if len(told) != 1 {
			t.Errorf("told of %v", told)
		}
		m.fail(nil)
		time.Sleep(time.Minute)
		is("two")

		time.Sleep(time.Second)
		u.Note(id, time.Now(), client, "three")
		cancel()
		wg.Wait()
		is("three")
		if len(told) != 1 {
			t.Errorf("told of %v", told)
		}
	})
}

func TestNoteDoesNotAllocate(t *testing.T) {
	u := usage(t, newMemory())
	id := credential.Generate().ID()
	u.Note(id, now, client, "listMembers")
	if n := testing.AllocsPerRun(100, func() { u.Note(id, now, client, "listMembers") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNote(b *testing.B) {
	u := usage(b, newMemory())
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = credential.Generate().ID()
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			u.Note(ids[i%len(ids)], now, client, "listMembers")
		}
	})
}
