package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/scopegate/scopegate/store"
)

// Asked is what is about to be asked of upstream.
type Asked struct {
	Nonce            string
	Team, Credential string
	Name             string // without the stamp
	Scopes           []string
	AllowedIPs       []string
	ExpiresAt        string
	Expires          time.Time // the latest that upstream may take ExpiresAt for

	// Within is how long the mint may take. After that it is given up.
	Within time.Duration

	Bounds store.TokenBounds
	Answer *store.Answer // with an idempotency key
}

// Mint is a token that is being made. Each of its steps is on the disk when it
// returns. It is for one goroutine.
type Mint struct {
	ledger *Ledger
	row    store.Token
	day    string
	within time.Duration
}

// Begin writes down what is about to be asked for. It fails with
// store.ErrFull or store.ErrSpent where the team has no room for it, and with
// store.ErrExists where the idempotency key was taken a moment ago.
func (l *Ledger) Begin(ctx context.Context, a Asked) (*Mint, error) {
	row, err := l.Rows.InsertToken(ctx, store.Token{
		Nonce: a.Nonce, Team: a.Team, Credential: a.Credential, State: Intent,
		Name: a.Name, Scopes: a.Scopes, AllowedIPs: a.AllowedIPs,
		ExpiresAt: a.ExpiresAt, Expires: a.Expires, Due: l.Now().Add(a.Within),
	}, a.Bounds, a.Answer)
	if err != nil {
		return nil, err
	}
	m := &Mint{ledger: l, row: row, within: a.Within}
	if a.Bounds.PerDay > 0 {
		m.day = a.Bounds.Day
	}
	return m, nil
}

// Row is the mint's row as it was last written.
func (m *Mint) Row() store.Token { return m.row }

// Drop takes a mint back of which it is certain that upstream never acted on
// it, and gives back what it took of the team's quota.
func (m *Mint) Drop(ctx context.Context) error {
	return m.insist(ctx, func(t store.Token) (store.Token, error) {
		if t.ID != "" || t.State != Intent && t.State != Unknown {
			return t, fmt.Errorf("%w: a token may exist of what is to be dropped", ErrMove)
		}
		return t, m.ledger.Rows.DropToken(ctx, t.Nonce, t.Version, m.day)
	})
}

// Made keeps the id of the new token, so that it can be ended from now on even
// if nothing else is ever written.
func (m *Mint) Made(ctx context.Context, id string) error {
	return m.insist(ctx, func(t store.Token) (store.Token, error) {
		t.ID = strings.ToLower(id)
		if t.State == Unknown {
			// It was given up and is not yet to be asked about, nor forgotten.
			t.Due = m.ledger.Now().Add(m.within)
		}
		return m.ledger.Rows.UpdateToken(ctx, t, nil)
	})
}

// Live says that the token is as it was asked for and that its team is about
// to be given it, together with the sealed answer of an idempotent request.
func (m *Mint) Live(ctx context.Context, sealed []byte) error {
	err := m.insist(ctx, func(t store.Token) (store.Token, error) {
		return m.ledger.move(ctx, t, Live, "", sealed)
	})
	if err == nil {
		// It may have ended while the token was made, and what it had made by
		// then was seen to.
		m.ledger.Changed(m.row.Credential)
	}
	return err
}

// insist takes a step, also where the mint was meanwhile given up for lost but
// nothing yet done about it: its answer is here after all.
func (m *Mint) insist(ctx context.Context, step func(store.Token) (store.Token, error)) error {
	moved, err := step(m.row)
	if errors.Is(err, store.ErrChanged) {
		var now store.Token
		if now, err = m.ledger.Rows.TokenByNonce(ctx, m.row.Nonce); err != nil {
			return err
		}
		if now.State != Unknown || now.ID != m.row.ID {
			m.row = now
			return ErrOvertaken
		}
		moved, err = step(now)
	}
	if err != nil {
		return err
	}
	m.row = moved
	return nil
}

// Lost says that the reply did not come, or that nothing could be learned from
// it: the token may exist.
func (m *Mint) Lost(ctx context.Context, cause string) error {
	if m.row.ID != "" {
		return m.Revoke(ctx, cause)
	}
	_, err := m.ledger.lose(ctx, m.row, cause)
	if errors.Is(err, store.ErrChanged) {
		return nil // it was given up before
	}
	return err
}

// Revoke says that the token is to be deleted after all, once upstream has
// shown that it is this mint's.
func (m *Mint) Revoke(ctx context.Context, cause string) error {
	err := m.insist(ctx, func(t store.Token) (store.Token, error) {
		if t.State == Revoking || t.State == Gone {
			return t, nil
		}
		return m.ledger.lose(ctx, t, cause)
	})
	if errors.Is(err, ErrOvertaken) && (m.row.State == Revoking || m.row.State == Gone) {
		return nil
	}
	return err
}

// Disown says that the id which upstream named is that of a token which this
// mint did not make. Nothing is done about that one; the mint's own, if there
// is one, is looked for.
func (m *Mint) Disown(ctx context.Context, cause string) error {
	return m.insist(ctx, func(t store.Token) (store.Token, error) {
		t.ID = ""
		return m.ledger.lose(ctx, t, cause)
	})
}
