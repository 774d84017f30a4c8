package sqlitefill_test

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/sqlite"
	"github.com/scopegate/scopegate/store/storetest/sqlitefill"
)

// A store that was filled must be one that a gateway would have made, or a
// bench that runs on it measures something else.
func TestFilledStoreIsAStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	id := func(i int) string { return fmt.Sprintf("%012d", i) }
	hash := func(i int) [32]byte { return sha256.Sum256([]byte(id(i))) }
	if err := sqlitefill.Fill(t.Context(), path, "billing", 250, func(i int) (string, [32]byte) { return id(i), hash(i) }); err != nil {
		t.Fatal(err)
	}
	st, err := sqlite.Open(t.Context(), path, "default")
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, i := range []int{0, 249} {
		c, err := st.Credential(t.Context(), id(i))
		if err != nil || c.Team != "billing" || c.State != "active" || len(c.Generations) != 1 || c.Generations[0].Hash != hash(i) {
			t.Errorf("%d: %+v %v", i, c, err)
		}
	}
	if changes, err := st.Changes(t.Context(), 249, 0); err != nil || changes.Revision != 250 || len(changes.List) != 1 {
		t.Errorf("%+v %v", changes, err)
	}
	c, err := st.Insert(t.Context(), store.Credential{ID: "zzzzzzzzzzzz", Team: "billing", Name: "next", State: "active"}, 251)
	if err != nil || c.Revision != 251 {
		t.Errorf("one more: %+v %v", c, err)
	}
}
