package fleet_test

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// What a restored store says may be less than what this replica knows: keys
// that it remembers as good, the backup may not even have.
func TestRestoredStoreIsForgotten(t *testing.T) {
	tests := []struct {
		name string
		then func(db *database) // what became of the store after its restore
	}{
		{"and it stands as it was", func(*database) {}},
		{"and it kept the replicas", func(db *database) {
			row := db.replicas["a"]
			row.Revision = 10
			db.replicas["a"] = row
		}},
		{"and it went on to where this replica stood", func(db *database) { changeMany(db, 6) }},
		{"and it went on beyond", func(db *database) { changeMany(db, 50) }},
		{"and it lost the replicas", func(db *database) { changeMany(db, 6); clear(db.replicas) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				db := newDatabase()
				r := join(t, db, "a")
				changeMany(db, 4)
				catchUp(t, r)
				backup := db.snapshot()
				changeMany(db, 6)
				catchUp(t, r)
				if r.Revision() != 10 || r.times(&r.resets) != 1 {
					t.Fatalf("at %d after %d resets", r.Revision(), r.times(&r.resets))
				}

				var fresh []bool
				look := func() { r.tell(func() { fresh = append(fresh, r.Fresh(time.Now())) }) }
				r.tell(func() { r.onReset = look })
				r.cut() // as a database is while it is restored
				time.Sleep(2 * time.Second)
				db.restore(backup)
				tt.then(db)
				r.mend()
				time.Sleep(time.Second + time.Millisecond)

				if got := told(r, &fresh); len(got) == 0 || slices.Contains(got, true) {
					t.Errorf("relied on while it was forgotten: %v", got)
				}
				if !r.Fresh(time.Now()) || r.Revision() != db.revision {
					t.Errorf("fresh %v at %d, and the store is at %d", r.Fresh(time.Now()), r.Revision(), db.revision)
				}
				if got := told(r, &r.warnings); !slices.ContainsFunc(got, func(w string) bool { return strings.Contains(w, "restored") }) {
					t.Errorf("nobody was told: %q", got)
				}
				db.change("new")
				catchUp(t, r)
				if got := told(r, &r.applied); got[len(got)-1] != "new" {
					t.Errorf("does not follow it from there: %q", got)
				}
			})
		})
	}
}

// Also where the connection held, and no change came since.
func TestRestoreIsSeenWithoutAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		r := join(t, db, "a")
		changeMany(db, 4)
		catchUp(t, r)
		backup := db.snapshot()
		changeMany(db, 6)
		catchUp(t, r)
		db.restore(backup)
		changeMany(db, 6)
		time.Sleep(6 * time.Second)
		if got := r.times(&r.resets); got < 2 {
			t.Error("a row that says less than was told went unseen")
		}
	})
}

// A beat whose answer is lost may have been taken. That the row then says more
// than this replica knows to have told is no restore.
func TestLostAnswerIsNoRestore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		db := newDatabase()
		r := join(t, db, "a")
		r.when("answer", fails)
		db.change("one")
		if err := r.Sync(t.Context()); err == nil {
			t.Error("a sync whose beat failed was good")
		}
		r.when("answer", nil)
		if err := r.Sync(t.Context()); err != nil {
			t.Error(err)
		}
		if got := r.times(&r.resets); got != 1 {
			t.Errorf("everything was forgotten %d times", got)
		}
	})
}
