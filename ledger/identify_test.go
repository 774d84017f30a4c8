package ledger

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scopegate/scopegate/store"
)

// An upstream that lies, or confuses its answers, names somebody else's token
// for a mint, and the mint comes to nothing before that is seen. The gateway
// must not delete that token: not though the id stands in its own row.
func TestForeignTokenIsNotDeleted(t *testing.T) {
	ends := map[string]func(t *testing.T, w *world, m *Mint){
		"the process dies": func(*testing.T, *world, *Mint) {},
		"it cannot be read back": func(t *testing.T, _ *world, m *Mint) {
			ok(t, m.Revoke(t.Context(), "it could not be read back: GoodAccess answered 500"))
		},
		"the request is broken off": func(t *testing.T, _ *world, m *Mint) {
			ok(t, m.Lost(t.Context(), "the request was broken off"))
		},
		"it was given up before its answer came": func(t *testing.T, _ *world, m *Mint) {
			ok(t, m.Lost(t.Context(), "it took long"))
			ok(t, m.Made(t.Context(), m.row.ID))
		},
	}
	for name, end := range ends {
		for kind, nonce := range map[string]string{"foreign": "", "another mint's": "anothernonceofours00"} {
			t.Run(kind+", "+name, func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					m, own := w.begin(t)
					w.up.add(own, m.Row().Nonce)
					named, _ := w.next()
					w.up.add(named, nonce)
					ok(t, m.Made(t.Context(), named))
					end(t, w, m)
					if _, err := w.Find(t.Context(), team, named); !errors.Is(err, store.ErrNotFound) {
						t.Errorf("its team could delete it: %v", err)
					}
					w.up.faults(errors.New("GoodAccess answered 500"), "read")
					time.Sleep(time.Minute) // which is how long a mint may take
					w.runs(t, 10*time.Second)
					row := w.is(t, m.Row().Nonce, Unknown)
					if row.ID != named || row.Attempts < 2 || row.Attempts > 5 || !strings.Contains(row.Failure, "500") {
						t.Errorf("while nothing can be read: %+v", row)
					}
					w.up.heal()
					time.Sleep(longPause)
					w.runs(t, 2*time.Second)
					row = w.is(t, m.Row().Nonce, Unknown)
					if row.ID != "" || !strings.Contains(row.Cause, named) || row.Attempts != 0 || row.Failure != "" {
						t.Errorf("%+v", row)
					}
					if n := w.up.asked("delete"); n != 0 {
						t.Errorf("upstream was asked %v", w.up.calls)
					}
					if want := "upstream named it for a mint that did not make it; it is left alone"; !slices.Equal(w.up.notes, []string{want}) {
						t.Errorf("the record has %q", w.up.notes)
					}
					if !slices.Contains(w.warned, "token "+named) {
						t.Errorf("the log has %q", w.warned)
					}

					// Its own is found as that of any lost reply is.
					w.reconciles(t, Reconciliation{})
					w.runs(t, 2*time.Second)
					w.is(t, m.Row().Nonce, Gone)
					if !w.up.has(named) || w.up.has(own) {
						t.Errorf("upstream has %v", w.up.all())
					}
				})
			})
		}
	}
}

// A row that was never live takes one more call, and no other row does.
func TestTokenIsIdentifiedOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m, id := w.begin(t)
		w.up.add(id, m.Row().Nonce)
		ok(t, m.Made(t.Context(), id))
		ok(t, m.Revoke(t.Context(), "it is wider"))
		w.up.faults(errReset, "delete")
		w.runs(t, 3*time.Second)
		row := w.is(t, m.Row().Nonce, Revoking)
		if row.Cause != "it is wider" || row.Attempts == 0 {
			t.Errorf("%+v", row)
		}
		w.up.heal()
		w.runs(t, 10*time.Second)
		w.is(t, m.Row().Nonce, Gone)
		calls := slices.Compact(slices.Clone(w.up.calls))
		if want := []string{"read " + id, "delete " + id, "read " + id}; !slices.Equal(calls, want) {
			t.Errorf("upstream was asked %v", w.up.calls)
		}
	})
}

// That upstream does not have what it named proves nothing: it may be there a
// moment later, or never have been what was made. It is looked for.
func TestNamedTokenIsNotThere(t *testing.T) {
	for name, late := range map[string]bool{"never": false, "yet": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				m, id := w.begin(t)
				named, _ := w.next()
				if late {
					named = id
				}
				ok(t, m.Made(t.Context(), named))
				ok(t, m.Revoke(t.Context(), "upstream did not have it when it was read back"))
				w.runs(t, 2*time.Second)
				if row := w.is(t, m.Row().Nonce, Unknown); row.ID != "" || w.up.asked("delete") != 0 {
					t.Errorf("%+v after %v", row, w.up.calls)
				}
				w.up.add(id, m.Row().Nonce)
				w.reconciles(t, Reconciliation{})
				w.runs(t, 2*time.Second)
				w.is(t, m.Row().Nonce, Gone)
				if w.up.has(id) {
					t.Error("upstream has what it made")
				}
			})
		})
	}
}

// Where upstream shows no names, nothing can be told. Such a token is not
// deleted, and its id is not forgotten: it may be ours, and is for people to
// look into.
func TestNamelessTokenIsKept(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m, id := w.begin(t)
		w.up.add(id, "")
		w.up.tokens[0].Name = ""
		ok(t, m.Made(t.Context(), id))
		time.Sleep(time.Minute)
		w.runs(t, 10*time.Second)
		time.Sleep(longPause)
		w.runs(t, 2*time.Second)
		row := w.is(t, m.Row().Nonce, Unknown)
		if row.ID != id || row.Failure != errNameless.Error() || row.Attempts < 3 || row.Attempts > 6 || w.up.asked("delete") != 0 {
			t.Errorf("%+v after %v", row, w.up.calls)
		}
		w.up.remove(id) // somebody has looked into it
		time.Sleep(longPause)
		w.runs(t, 2*time.Second)
		if row := w.is(t, m.Row().Nonce, Unknown); row.ID != "" {
			t.Errorf("%+v", row)
		}
	})
}

// Whatever instant it is broken off at, the next process neither deletes what
// is not ours nor leaves what is.
func TestIdentifyingIsBrokenOff(t *testing.T) {
	for _, at := range []string{"before read", "after read", "storing", "before delete", "after delete"} {
		for _, foreign := range []bool{false, true} {
			name := at
			if foreign {
				name += ", of another's"
			}
			t.Run(name, func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					m, id := w.begin(t)
					nonce := m.Row().Nonce
					if foreign {
						nonce = ""
					}
					w.up.add(id, nonce)
					ok(t, m.Made(t.Context(), id))
					ok(t, m.Revoke(t.Context(), "it is wider"))
					ctx, die := context.WithCancel(t.Context())
					defer die()
					passes := func(moment string) error {
						if moment == at {
							die()
						}
						return ctx.Err()
					}
					w.up.before = func(operation, _ string) error { return passes("before " + operation) }
					w.up.after = func(operation, _ string) error { return passes("after " + operation) }
					w.rows.fault = func(call string) error {
						if call == "update" {
							return passes("storing")
						}
						return nil
					}
					if foreign && strings.HasSuffix(at, "delete") {
						time.AfterFunc(time.Second, die) // it does not come to that
					}
					w.Run(ctx)
					w.up.heal()
					w.rows.fault = nil
					w.replica("two").runs(t, 3*time.Second)
					if foreign {
						if row := w.is(t, m.Row().Nonce, Unknown); row.ID != "" || !w.up.has(id) || w.up.asked("delete") != 0 {
							t.Errorf("%+v after %v", row, w.up.calls)
						}
						return
					}
					w.is(t, m.Row().Nonce, Gone)
					if w.up.has(id) {
						t.Error("upstream still has it")
					}
				})
			})
		}
	}
}

// A mint whose proof succeeds while somebody asks whose token it is has made it
// live, and nothing is deleted.
func TestIdentifyingMeetsAMint(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m, id := w.begin(t)
		w.up.add(id, m.Row().Nonce)
		ok(t, m.Made(t.Context(), id))
		w.up.before = func(operation, _ string) error {
			if operation == "read" {
				ok(t, m.Live(t.Context(), nil))
			}
			return nil
		}
		time.Sleep(time.Minute)
		w.runs(t, 10*time.Second)
		w.is(t, m.Row().Nonce, Live)
		if w.up.asked("read") != 1 || w.up.asked("delete") != 0 || !w.up.has(id) {
			t.Errorf("upstream was asked %v", w.up.calls)
		}
	})
}

// What cannot be recorded is not forgotten.
func TestForeignTokenIsTold(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m, _ := w.begin(t)
		named, _ := w.next()
		w.up.add(named, "")
		ok(t, m.Made(t.Context(), named))
		ok(t, m.Revoke(t.Context(), "it could not be read back"))
		w.up.faults(errReset, "note")
		w.runs(t, 10*time.Second)
		row := w.is(t, m.Row().Nonce, Unknown)
		if row.ID != named || row.Failure == "" || w.up.asked("read") > 5 {
			t.Errorf("%+v after %v", row, w.up.calls)
		}
		w.up.heal()
		time.Sleep(longPause)
		w.runs(t, 2*time.Second)
		if row := w.is(t, m.Row().Nonce, Unknown); row.ID != "" || len(w.up.notes) != 1 {
			t.Errorf("%+v, told %v", row, w.up.notes)
		}
	})
}

// Asking whose tokens they are is bounded with all else that is asked.
func TestIdentifyingKeepsToTheBudget(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const many = 400
		for range many {
			m, id := w.begin(t)
			w.up.add(id, "")
			ok(t, m.Made(t.Context(), id))
			ok(t, m.Revoke(t.Context(), "it could not be read back"))
		}
		early, _ := w.begin(t)
		w.runs(t, 10*time.Second)
		if n := len(w.up.calls); n < perMinute || n > perMinute+60 {
			t.Errorf("%d calls in ten seconds", n)
		}
		w.up.faults(&Wait{For: 5 * time.Minute, Cause: errReset}, "read")
		w.runs(t, 2*time.Second)
		time.Sleep(4 * time.Minute)
		w.runs(t, 10*time.Second)
		if n := len(w.up.calls); n > perMinute+60 {
			t.Errorf("%d calls although upstream wants none", n)
		}
		w.is(t, early.Row().Nonce, Unknown) // it does not wait behind them
	})
}

// After a restore from a backup nothing is asked about, and nothing deleted,
// before an operator says so. Then it is, though upstream does not list it.
func TestIdentifyingAfterARestore(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m, id := w.begin(t)
		w.up.add(id, m.Row().Nonce)
		ok(t, m.Made(t.Context(), id))
		_, err := w.rows.Restored(t.Context(), "backup of Monday")
		ok(t, err)
		time.Sleep(time.Minute)
		w.runs(t, 10*time.Second)
		if row := w.is(t, m.Row().Nonce, Unknown); row.ID != id || len(w.up.calls) != 0 || row.Version > 4 {
			t.Errorf("%+v after %v", row, w.up.calls)
		}
		all := w.up.all()
		w.up.tokens = nil
		w.reconciles(t, Reconciliation{AfterRestore: true})
		w.up.tokens = all
		time.Sleep(longPause)
		w.runs(t, 2*time.Second)
		w.is(t, m.Row().Nonce, Gone)
		if w.up.has(id) {
			t.Error("upstream still has it")
		}
	})
}

// An operator, or a team, cannot have a token deleted of which it is not known
// whose it is.
func TestRevokeRejectsWhatWasNeverLive(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m, id := w.begin(t)
		ok(t, m.Made(t.Context(), id))
		if _, err := w.Revoke(t.Context(), m.Row(), "its team asked", 0); !errors.Is(err, ErrMove) {
			t.Errorf("of one that is being made: %v", err)
		}
		ok(t, m.Lost(t.Context(), "reset"))
		if _, err := w.Revoke(t.Context(), m.Row(), "its team asked", 0); !errors.Is(err, ErrMove) {
			t.Errorf("of one that is lost: %v", err)
		}
	})
}
