package sqlitefill_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
	if err := sqlitefill.Fill(t.Context(), path, 250, func(i int) (string, string, [32]byte) { return "billing", id(i), hash(i) }); err != nil {
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

func TestFilledTokensAreTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	row := func(i int) store.Token {
		return store.Token{
			Nonce: fmt.Sprintf("n%04d", i), ID: fmt.Sprintf("id%04d", i), Team: "billing", Credential: "ci", State: store.TokenLive,
			Name: fmt.Sprint("token ", i), ExpiresAt: "2031-02-03", Expires: time.Date(2031, 2, 4, 0, 0, 0, 0, time.UTC),
			Due: time.Date(2031, 2, 5, 0, 0, 0, 0, time.UTC),
		}
	}
	err := sqlitefill.FillTokens(t.Context(), path, 250, func(i int) store.Token {
		if i == 249 {
			return store.Token{Nonce: "bare", Team: "billing", State: "unknown"}
		}
		return row(i)
	})
	if err != nil {
		t.Fatal(err)
	}
	st, err := sqlite.Open(t.Context(), path, "default")
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	got, err := st.Token(t.Context(), "id0007")
	want := row(7)
	want.Created, want.Changed, want.CreatedBy, want.Version = time.UnixMicro(1).UTC(), time.UnixMicro(1).UTC(), "fill", 1
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	bare, err := st.TokenByNonce(t.Context(), "bare")
	if err != nil || bare.ID != "" || !bare.Expires.IsZero() || !bare.Due.IsZero() {
		t.Errorf("%+v, %v", bare, err)
	}
	next, err := st.InsertToken(t.Context(), store.Token{Nonce: "next", Team: "billing", State: "intent"}, store.TokenBounds{Live: 250}, nil)
	if !errors.Is(err, store.ErrFull) {
		t.Errorf("one more than 250: %+v, %v", next, err)
	}
}
