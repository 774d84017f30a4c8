package store

import (
	"errors"
	"time"
)

// The states of a token that a store knows of. All others are the ledger's
// affair.
const (
	// TokenLive is a token that its team sees.
	TokenLive = "live"
	// TokenGone is one that upstream has no longer: its row is kept for the
	// record, and takes no place.
	TokenGone = "gone"
)

// MostTokens is how many tokens FindTokens may be asked for at once.
const MostTokens = 1000

// Token is the row of a token at upstream that the gateway caused or adopted.
// Times are as those of a Credential.
type Token struct {
	// Nonce names the row, and is part of the stamp in the token's name at
	// upstream.
	Nonce string

	// ID is upstream's, and unique in a gateway; "" while it is not known.
	ID string

	Team       string
	Credential string // the id of the one that it was made with; "" of an adopted one
	State      string
	Cause      string // why it is in this state, for people
	Adopted    bool

	Name       string // as the team gave it, without the stamp
	Scopes     []string
	AllowedIPs []string

	ExpiresAt string    // as it was sent to upstream
	Expires   time.Time // the latest moment for which upstream may take that

	Created   time.Time // by the store's clock
	Changed   time.Time // its state, by the store's clock; an attempt to delete it is no change
	CreatedBy string    // who adopted it

	// Version counts what the row has been, from 1. No two changes of a row
	// share one.
	Version int64

	Attempts int       // to delete it, or to find out whether it is to be, so far
	Due      time.Time // when something is to be done about it
	Failure  string    // of the last attempt, for people
}

// TokenBounds are what the row of a new token must keep within. Zero bounds
// nothing.
type TokenBounds struct {
	Live   int    // rows of the team that are not gone, and have not expired
	Day    string // the period of PerDay; see Spend
	PerDay int    // rows that the team may insert in it
}

// Answer is the first answer to a request that may be repeated. What it says is
// sealed under a secret that the store does not have.
type Answer struct {
	Key        [32]byte
	Nonce      string // of the token that the request made
	Generation int    // of the credential that asked
	Body       [32]byte
	Sealed     []byte // nil until there is an answer
	Until      time.Time
}

// TokenFilter chooses tokens. A zero field chooses all.
type TokenFilter struct {
	Team       string
	Credential string
	States     []string

	After string // the nonce behind which the page begins
	Limit int    // of rows; 0 is 100
}

// CheckMove tells why a bulk change of states is not to be: without a team or a
// credential it would be all the gateway's tokens that are deleted next, and
// one that leaves rows where they are would never end.
func (f TokenFilter) CheckMove(from, to string) error {
	switch {
	case f.Team == "" && f.Credential == "":
		return errors.New("neither a team nor a credential is named")
	case from == to:
		return errors.New("the state stays the same")
	case from == TokenGone:
		return errors.New("a token that is gone stays gone")
	default:
		return nil
	}
}

// TokenCount is how many tokens a team has in a state.
type TokenCount struct {
	Team  string
	State string

	N      int
	Oldest time.Time // when the one came to its state that has been in it for the longest, if that was asked for
}
