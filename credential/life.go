package credential

import (
	"context"

	"github.com/scopegate/scopegate/store"
)

// A credential of the configuration is suspended, resumed and revoked by a row
// of the store that stands before its line. Each id stands for itself: where a
// line has keys of two ids, revoking the one that leaked leaves the other.

// Suspend stops a credential until Resume.
func (r *Registry) Suspend(ctx context.Context, id string, e Edit) (store.Credential, error) {
	return r.change(ctx, id, KindSuspend, e, func(row *store.Credential, _ *Change) (bool, error) {
		if row.State == store.Revoked {
			return false, errFinal()
		}
		return become(row, Suspended, e.Note), nil
	})
}

// Resume puts a suspended credential in force again.
func (r *Registry) Resume(ctx context.Context, id string, e Edit) (store.Credential, error) {
	return r.change(ctx, id, KindResume, e, func(row *store.Credential, _ *Change) (bool, error) {
		line := r.static.byID[id]
		switch {
		case row.State == store.Revoked:
			return false, errFinal()
		case row.State != Suspended.String() && row.Static && line != nil && line.State != Active:
			return false, refused("state", "the configuration says that it is %s; change it there", line.State)
		case row.State != Suspended.String():
			return false, refused("state", "it is not suspended")
		}
		return become(row, Active, e.Note), nil
	})
}

// Revoke ends a credential for good. One that is revoked already stays as it
// is, so that a bulk change can be repeated.
func (r *Registry) Revoke(ctx context.Context, id string, e Edit) (store.Credential, error) {
	return r.change(ctx, id, KindRevoke, e, func(row *store.Credential, _ *Change) (bool, error) {
		return become(row, Revoked, e.Note), nil
	})
}

// Lock suspends a credential because one of its retired keys was used, which
// its owner would not do. One that is not active stays as it is.
func (r *Registry) Lock(ctx context.Context, id, note string) (store.Credential, error) {
	return r.change(ctx, id, KindLock, Edit{Note: note, By: "scopegate"}, func(row *store.Credential, _ *Change) (bool, error) {
		return row.State == Active.String() && become(row, Suspended, note), nil
	})
}

// become gives the row a state, and reports whether that changes it.
func become(row *store.Credential, s State, note string) bool {
	if row.State == s.String() {
		return false
	}
	row.State, row.Note = s.String(), note
	return true
}

func errFinal() error {
	return refused("state", "it is revoked, which is final; make another credential")
}

// alive refuses changes to what a credential can do where that would change
// nothing.
func alive(row *store.Credential) error {
	if row.Static {
		return refused("id", "it is one of the configuration's, which alone says its keys, its scopes and its end; change it there")
	}
	if row.State == store.Revoked {
		return errFinal()
	}
	return nil
}
