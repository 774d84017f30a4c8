package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
)

// counts are a report's, without what it did not find.
func counts(r *Report) string {
	var text []string
	for _, kind := range Findings {
		if n := r.Counts[kind]; n != 0 {
			text = append(text, fmt.Sprintf("%s=%d", kind, n))
		}
	}
	return strings.Join(text, " ")
}

// states are the versions and states of all rows.
func (w *world) states(t *testing.T) string {
	t.Helper()
	page, _, err := w.rows.Tokens(t.Context(), store.TokenFilter{Limit: 1000})
	ok(t, err)
	var text []string
	for _, row := range page {
		text = append(text, fmt.Sprintf("%s %s %d", row.Nonce, row.State, row.Version))
	}
	return strings.Join(text, "\n")
}

// What upstream made although nobody was told is found by its stamp and
// deleted, and nothing else is touched.
func TestReconcileFindsWhatWasLost(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		live := w.mint(t)
		row, id := w.loses(t)
		never, _ := w.begin(t)
		ok(t, never.Lost(t.Context(), "timeout"))
		w.up.add(uuid(900), "")
		w.up.add(uuid(901), "anothernonceofours00")

		before := w.states(t)
		dry := w.reconciles(t, Reconciliation{Dry: true})
		if w.states(t) != before || counts(dry) != "ours=1 foreign=1 stray=1 recovered=1" || !dry.Dry {
			t.Errorf("a dry run: %s\n%s", dry, w.states(t))
		}
		report := w.reconciles(t, Reconciliation{})
		if counts(report) != counts(dry) || report.Stopped != "" || len(report.List) != 2 {
			t.Errorf("%s: %+v", report, report.List)
		}
		if found := w.is(t, row.Nonce, Revoking); found.ID != id || !strings.Contains(found.Cause, "lost") {
			t.Errorf("%+v", found)
		}
		w.runs(t, 2*time.Second)
		w.is(t, row.Nonce, Gone)
		w.is(t, live.Nonce, Live)
		w.is(t, never.Row().Nonce, Unknown)
		if w.up.has(id) || len(w.up.all()) != 3 || w.up.asked("delete") != 1 {
			t.Errorf("upstream: %v after %v", w.up.all(), w.up.calls)
		}
		if len(w.events.reports) != 2 || len(w.up.notes) != 2 || !strings.Contains(w.up.notes[1], "recovered=1") {
			t.Errorf("told: %v, %v", w.events.reports, w.up.notes)
		}

		// A create that lands late is found late.
		w.up.add(uuid(902), never.Row().Nonce)
		w.reconciles(t, Reconciliation{})
		w.runs(t, 2*time.Second)
		w.is(t, never.Row().Nonce, Gone)
		if w.up.has(uuid(902)) {
			t.Error("what landed late is still there")
		}
	})
}

func TestFindings(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, w *world)
		want string
		told int // findings in the list
	}{
		"nothing":       {func(*testing.T, *world) {}, "", 0},
		"ours":          {func(t *testing.T, w *world) { w.mint(t) }, "ours=1", 0},
		"foreign":       {func(_ *testing.T, w *world) { w.up.add(uuid(900), "") }, "foreign=1", 0},
		"a stamp alone": {func(_ *testing.T, w *world) { w.up.add(uuid(900), "nobody") }, "stray=1", 1},
		"drifted": {func(t *testing.T, w *world) {
			row := w.mint(t)
			w.up.remove(row.ID)
			w.up.add(row.ID, "", "name", "allowed_scopes")
		}, "drifted=1", 1},
		"owed": {func(t *testing.T, w *world) { w.owes(t) }, "owed=1", 1},
		"being made": {func(t *testing.T, w *world) {
			m, id := w.begin(t)
			w.up.add(id, m.Row().Nonce)
		}, "owed=1", 1},
		"made, and not yet live": {func(t *testing.T, w *world) {
			m, id := w.begin(t)
			w.up.add(id, m.Row().Nonce)
			ok(t, m.Made(t.Context(), id))
		}, "owed=1", 1},
		"named for a mint, and another's": {func(t *testing.T, w *world) {
			m, id := w.begin(t)
			w.up.add(id, "")
			ok(t, m.Made(t.Context(), id))
			ok(t, m.Lost(t.Context(), "reset"))
		}, "stray=1", 1},
		"named for a mint, and its own": {func(t *testing.T, w *world) {
			m, id := w.begin(t)
			w.up.add(id, m.Row().Nonce)
			ok(t, m.Made(t.Context(), id))
			ok(t, m.Lost(t.Context(), "reset"))
		}, "recovered=1", 1},
		"named for a mint, and not to be told": {func(t *testing.T, w *world) {
			m, id := w.begin(t)
			w.up.add(id, "")
			w.up.tokens[0].Name = ""
			ok(t, m.Made(t.Context(), id))
			ok(t, m.Lost(t.Context(), "reset"))
		}, "stray=1", 1},
		"vanished": {func(t *testing.T, w *world) { w.up.remove(w.mint(t).ID) }, "vanished=1", 1},
		"one that comes back": {func(t *testing.T, w *world) {
			row := w.owes(t)
			w.runs(t, 2*time.Second)
			w.up.add(row.ID, row.Nonce)
		}, "stray=1", 1},
		"two stamps alike, of a live one": {func(t *testing.T, w *world) {
			row := w.mint(t)
			w.up.add(uuid(900), row.Nonce)
		}, "ours=1 stray=1", 1},
		"two stamps alike, of a live one, the other way round": {func(t *testing.T, w *world) {
			row := w.mint(t)
			w.up.remove(row.ID)
			w.up.add(uuid(900), row.Nonce)
			w.up.add(row.ID, row.Nonce)
		}, "ours=1 stray=1", 1},
		"two stamps alike, of a lost one": {func(t *testing.T, w *world) {
			row, _ := w.loses(t)
			w.up.add(uuid(900), row.Nonce)
		}, "stray=2", 2},
		"two stamps alike, of a lost one, the other way round": {func(t *testing.T, w *world) {
			row, id := w.loses(t)
			w.up.remove(id)
			w.up.add(uuid(900), row.Nonce)
			w.up.add(id, row.Nonce)
		}, "stray=2", 2},
		"three stamps alike": {func(t *testing.T, w *world) {
			row, _ := w.loses(t)
			w.up.add(uuid(900), row.Nonce)
			w.up.add(uuid(901), row.Nonce)
		}, "stray=3", 3},
		"two stamps alike, of one being made": {func(t *testing.T, w *world) {
			m, id := w.begin(t)
			w.up.add(id, m.Row().Nonce)
			w.up.add(uuid(900), m.Row().Nonce)
		}, "owed=1 stray=1", 2},
		"a lost one listed twice": {func(t *testing.T, w *world) {
			row, id := w.loses(t)
			w.up.add(id, row.Nonce)
		}, "recovered=1", 1},
		"a live one listed twice": {func(t *testing.T, w *world) {
			row := w.mint(t)
			w.up.add(row.ID, row.Nonce)
		}, "ours=1", 0},
		"our token with the stamp of a lost one": {func(t *testing.T, w *world) {
			lost, _ := w.loses(t)
			w.up.remove(uuid(1))
			row := w.mint(t)
			w.up.remove(row.ID)
			w.up.add(row.ID, lost.Nonce, "name")
		}, "drifted=1", 1},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c.make(t, w)
				time.Sleep(time.Second)
				foreign, before := w.up.all(), w.up.asked("delete")
				report := w.reconciles(t, Reconciliation{})
				if counts(report) != c.want || len(report.List) != c.told {
					t.Errorf("%s, told %+v", report, report.List)
				}
				// Only what is recovered, or owed already, is ever deleted.
				w.runs(t, 2*time.Second)
				if strings.Contains(c.want, "recovered") || c.want == "owed=1" {
					return
				}
				if w.up.asked("delete") != before || len(w.up.all()) != len(foreign) {
					t.Errorf("upstream was asked %v", w.up.calls)
				}
			})
		})
	}
}

// What upstream does not list is asked for by itself, and is gone only if it
// says so. What was made while the list was read is not asked for.
func TestReconcileOfAListThatIsCut(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var rows []store.Token
		for range 5 {
			rows = append(rows, w.mint(t))
		}
		slow, id := w.begin(t)
		time.Sleep(time.Second)
		all := w.up.all()
		w.up.tokens = nil
		w.up.after = func(operation, _ string) error {
			if operation == "list" {
				w.up.tokens = all[:4] // the last one has vanished
				w.up.add(id, slow.Row().Nonce)
				ok(t, slow.Made(t.Context(), id))
				ok(t, slow.Live(t.Context(), nil))
			}
			return nil
		}
		report := w.reconciles(t, Reconciliation{})
		if counts(report) != "vanished=1 unlisted=4" {
			t.Errorf("%s", report)
		}
		for i, row := range rows {
			w.is(t, row.Nonce, map[bool]string{true: Live, false: Gone}[i < 4])
		}
		w.is(t, slow.Row().Nonce, Live)
	})
}

// A token that its team deletes while it is asked for has not vanished.
func TestReconcileMeetsADeletion(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		row := w.mint(t)
		time.Sleep(time.Second)
		all := w.up.all()
		w.up.tokens = nil
		w.up.after = func(operation, _ string) error {
			if operation == "list" {
				w.up.tokens = all
			}
			return nil
		}
		w.up.before = func(operation, id string) error {
			if operation == "read" {
				w.up.remove(id)
				owed, err := w.Revoke(t.Context(), row, "its team asked", time.Minute)
				ok(t, err)
				_, err = w.Deleted(t.Context(), owed, ErrNone)
				ok(t, err)
			}
			return nil
		}
		if report := w.reconciles(t, Reconciliation{}); counts(report) != "" {
			t.Errorf("%s", report)
		}
		if row := w.is(t, row.Nonce, Gone); row.Cause != "its team asked" {
			t.Errorf("%+v", row)
		}
	})
}

// A mint whose answer comes while its token is being found wins or loses, and
// no third thing happens.
func TestReconcileMeetsAMint(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m, id := w.begin(t)
		w.up.add(id, m.Row().Nonce)
		time.Sleep(time.Minute)
		w.runs(t, 2*time.Second)
		w.is(t, m.Row().Nonce, Unknown)
		w.up.after = func(operation, _ string) error {
			if operation == "list" {
				ok(t, m.Made(t.Context(), id))
				ok(t, m.Live(t.Context(), nil))
			}
			return nil
		}
		w.reconciles(t, Reconciliation{})
		w.is(t, m.Row().Nonce, Live)
		w.runs(t, 2*time.Second)
		if !w.up.has(id) {
			t.Error("a token that its team was given is deleted")
		}
	})
}

// A run that finds more than it may change asks first, and changes nothing.
func TestReconcileStops(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, w *world)
		ends string
	}{
		"more lost ones than may be deleted": {func(t *testing.T, w *world) { w.loses(t) }, Revoking},
		// Such as with the master token of another account.
		"more vanished ones than may be given up": {func(t *testing.T, w *world) { w.up.remove(w.mint(t).ID) }, Gone},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				for range DefaultMaxDeletions + 5 {
					c.make(t, w)
				}
				w.loses(t)
				w.up.remove(w.mint(t).ID)
				time.Sleep(time.Second)
				before := w.states(t)
				for range 2 {
					asked := w.up.asked("read")
					report := w.reconciles(t, Reconciliation{})
					if n := w.up.asked("read") - asked; n > DefaultMaxDeletions+1 {
						t.Errorf("it asked for %d tokens before it stopped", n)
					}
					if report.Stopped == "" || !strings.Contains(report.String(), "stopped: ") || w.states(t) != before {
						t.Errorf("%s\n%s", report, w.states(t))
					}
				}
				report := w.reconciles(t, Reconciliation{Dry: true, MaxDeletions: 100})
				if report.Stopped != "" || report.Counts[Recovered]+report.Counts[Vanished] != DefaultMaxDeletions+7 || w.states(t) != before {
					t.Errorf("dry: %s", report)
				}
				report = w.reconciles(t, Reconciliation{MaxDeletions: 100})
				if report.Stopped != "" || strings.Count(w.states(t), c.ends) != DefaultMaxDeletions+6 {
					t.Errorf("%s\n%s", report, w.states(t))
				}
			})
		})
	}
}

// A list that breaks off changes nothing, wherever it does.
func TestReconcileBreaksOff(t *testing.T) {
	for name, fault := range map[string]func(w *world){
		"at once": func(w *world) { w.up.faults(errReset, "list") },
		"at its end": func(w *world) {
			w.up.after = func(operation, _ string) error {
				if operation == "list" {
					return errReset
				}
				return nil
			}
		},
		"at a look-up": func(w *world) {
			w.rows.fault = func(call string) error {
				if call == "find" {
					return errReset
				}
				return nil
			}
		},
		"because its turn is over": func(w *world) {
			w.up.after = func(operation, _ string) error {
				if operation == "list" {
					time.Sleep(turn)
					_, err := w.rows.Acquire(context.Background(), leaseRun, "another", turn)
					return err
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.loses(t)
				w.up.remove(w.mint(t).ID)
				time.Sleep(time.Second)
				before := w.states(t)
				fault(w)
				report, err := w.Reconcile(t.Context(), Reconciliation{})
				if err == nil || w.states(t) != before || len(w.events.reports) != 0 {
					t.Errorf("%s, %v\n%s", report, err, w.states(t))
				}
				w.up.heal()
				w.rows.fault = nil
				time.Sleep(turn)
				if report := w.reconciles(t, Reconciliation{}); counts(report) != "vanished=1 recovered=1" {
					t.Errorf("afterwards: %s", report)
				}
			})
		})
	}
}

// That one token cannot be asked for keeps no lost one alive.
func TestReconcileWithoutReads(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		row, _ := w.loses(t)
		w.up.remove(w.mint(t).ID)
		time.Sleep(time.Second)
		w.up.faults(&Wait{Cause: errReset}, "read")
		if _, err := w.Reconcile(t.Context(), Reconciliation{}); !errors.Is(err, errReset) {
			t.Errorf("%v", err)
		}
		w.is(t, row.Nonce, Revoking)
		w.up.heal()
		if _, err := w.Reconcile(t.Context(), Reconciliation{}); err == nil || w.up.asked("list") != 1 {
			t.Errorf("it does not wait: %v", err)
		}
		time.Sleep(patient)
		if report := w.reconciles(t, Reconciliation{}); counts(report) != "owed=1 vanished=1" {
			t.Errorf("%s", report)
		}
	})
}

// After a restore from a backup the store may have forgotten anything, so that
// nothing is deleted of which it thinks that it was lost.
func TestReconcileAfterARestore(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		row, _ := w.loses(t)
		forgotten, id := w.begin(t) // it went live after the backup
		w.up.add(id, forgotten.Row().Nonce)
		ok(t, forgotten.Made(t.Context(), id))
		for range DefaultMaxDeletions {
			w.loses(t)
		}
		_, err := w.rows.Restored(t.Context(), "backup of Monday")
		ok(t, err)
		time.Sleep(2 * time.Minute)
		w.runs(t, 5*time.Second)
		w.is(t, forgotten.Row().Nonce, Unknown)
		if w.up.asked("delete") != 0 {
			t.Errorf("%v", w.up.calls)
		}
		pending := func(want bool) {
			t.Helper()
			at, err := w.rows.Restoration(t.Context())
			if err != nil || at.IsZero() == want {
				t.Errorf("pending since %s, %v", at, err)
			}
		}
		before := w.states(t)
		for _, o := range []Reconciliation{{}, {MaxDeletions: 100}, {Dry: true, AfterRestore: true}, {AfterRestore: true}} {
			report := w.reconciles(t, o)
			if w.states(t) != before || report.Stopped == "" || report.Counts[Recovered] != DefaultMaxDeletions+2 {
				t.Errorf("%+v: %s", o, report)
			}
			pending(true)
		}
		report := w.reconciles(t, Reconciliation{AfterRestore: true, MaxDeletions: 100})
		if report.Stopped != "" || report.Dry {
			t.Errorf("%s", report)
		}
		pending(false)
		w.runs(t, 5*time.Second)
		w.is(t, row.Nonce, Gone)
		w.is(t, forgotten.Row().Nonce, Gone)
	})
}

// One run at a time, of two replicas and of two requests to one of them.
func TestReconcileInTurn(t *testing.T) {
	for name, other := range map[string]func(w *world) *Ledger{
		"another replica":  func(w *world) *Ledger { return w.replica("two").Ledger },
		"the same process": func(w *world) *Ledger { return w.Ledger },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.mint(t)
				w.mint(t)
				tries := 0
				w.up.listed = func(string) {
					tries++
					if _, err := other(w).Reconcile(t.Context(), Reconciliation{}); !errors.Is(err, ErrBusy) {
						t.Errorf("%v", err)
					}
				}
				w.reconciles(t, Reconciliation{})
				if tries != 2 {
					t.Errorf("%d tries", tries)
				}
				w.up.heal()
				if _, err := other(w).Reconcile(t.Context(), Reconciliation{}); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

// Very many tokens are looked up in parts; what is told of them is bounded.
func TestReconcileOfManyTokens(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		row, _ := w.loses(t)
		const strays = mostTold + 200
		for i := range strays {
			w.up.add(uuid(1000+i), fmt.Sprintf("stray%d", i))
		}
		w.up.tokens[3].Name = strings.Repeat("ě", 10<<20)
		var progress []int
		report := w.reconciles(t, Reconciliation{Progress: func(n int) { progress = append(progress, n) }})
		if report.Counts[Stray] != strays || report.Counts[Recovered] != 1 || len(report.List) != mostTold {
			t.Errorf("%s, %d told", report, len(report.List))
		}
		if want := []int{500, 1000, strays + 1}; !slices.Equal(progress, want) {
			t.Errorf("progress %v, want %v", progress, want)
		}
		for _, f := range report.List {
			if len(f.Name) > longestText+3 {
				t.Errorf("a name of %d bytes", len(f.Name))
			}
		}
		w.is(t, row.Nonce, Revoking)
	})
}

// Reading is bounded like all else, and lets deletions go first.
func TestReconcilePacesItself(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const many = 400
		for range many {
			w.mint(t)
		}
		time.Sleep(time.Second)
		all := w.up.all()
		w.up.tokens = nil
		w.up.after = func(operation, _ string) error {
			if operation == "list" {
				w.up.tokens = all
			}
			return nil
		}
		var running sync.WaitGroup
		began := time.Now()
		running.Go(func() {
			report := w.reconciles(t, Reconciliation{})
			if report.Counts[Unlisted] < many-1 {
				t.Errorf("%s", report)
			}
			if took := time.Since(began); took < 40*time.Second {
				t.Errorf("it took %s", took)
			}
		})
		time.Sleep(20 * time.Second)
		page, _, err := w.rows.Tokens(t.Context(), store.TokenFilter{States: []string{Live}, Limit: 1})
		ok(t, err)
		_, err = w.Revoke(t.Context(), page[0], "its team asked", 0)
		ok(t, err)
		w.runs(t, 2*time.Second)
		w.is(t, page[0].Nonce, Gone)
		running.Wait()
	})
}

// The reconciler runs as often as it is told to, on one replica, sooner where a
// reply was lost, and less often where it fails.
func TestReconcilerRuns(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		two := w.replica("two")
		reconcilers := func(d, every time.Duration) int {
			before := w.up.asked("list")
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			var running sync.WaitGroup
			for _, l := range []*Ledger{w.Ledger, two.Ledger} {
				running.Go(func() { l.RunReconciler(ctx, func() time.Duration { return every }) })
			}
			running.Wait()
			return w.up.asked("list") - before
		}
		if n := reconcilers(time.Minute, 0); n != 0 {
			t.Errorf("switched off: %d runs", n)
		}
		if n := reconcilers(31*time.Minute, 15*time.Minute); n != 3 {
			t.Errorf("each quarter of an hour: %d runs in half an hour", n)
		}
		row, _ := w.loses(t)
		if n := reconcilers(time.Minute, 15*time.Minute); n != 1 {
			t.Errorf("after a reply was lost: %d runs", n)
		}
		w.is(t, row.Nonce, Revoking)

		w.loses(t)
		w.up.faults(errReset, "list")
		if n := reconcilers(30*time.Minute, 15*time.Minute); n < 6 || n > 25 {
			t.Errorf("where it fails: %d runs in half an hour", n)
		}
		w.up.faults(&Wait{For: 20 * time.Minute, Cause: errReset}, "list")
		if n := reconcilers(30*time.Minute, 15*time.Minute); n < 1 || n > 4 {
			t.Errorf("where it is told to wait: %d runs in half an hour", n)
		}
		w.up.away = true
		if n := reconcilers(time.Minute, 15*time.Minute); n != 0 {
			t.Errorf("without a configuration: %d runs", n)
		}
	})
}
