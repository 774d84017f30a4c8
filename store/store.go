// Package store holds the plain rows that gateways keep: credentials with
// their generations, tokens, replicas, leases and counts. It has no rules: what
// may be made, and what may become of it, is decided by credential, ledger and
// fleet, each of which declares the slice of a store that it uses.
//
// Two packages below implement it: store/sqlite for one machine, and
// store/postgres for a fleet. Both pass the suite of store/storetest. A store
// is opened for one gateway name, and shows the rows of that gateway alone.
package store

import (
	"errors"
	"time"
)

// What a store answers beyond rows. Any other error means that it could not be
// asked: whoever gets one knows nothing, and takes nothing for granted.
var (
	// ErrNotFound says that there is no such row.
	ErrNotFound = errors.New("no such row")
	// ErrExists says that what names the row is taken.
	ErrExists = errors.New("the row exists already")
	// ErrChanged says that somebody else changed the row since it was read.
	ErrChanged = errors.New("the row was changed in the meantime")
	// ErrFull says that the team has as many credentials, or tokens, as it may.
	ErrFull = errors.New("no room for another row")
	// ErrSpent says that the team has made as many in the period as it may.
	ErrSpent = errors.New("nothing is left of the period")
	// ErrTooNew says that the database was written by a later version.
	ErrTooNew = errors.New("the database is of a later version")
	// ErrCorrupt says that the database cannot be read.
	ErrCorrupt = errors.New("the database is damaged")
)

// Revoked is the one state of a credential that a store knows of: names and
// places of revoked ones are free again.
const Revoked = "revoked"

// Credential is one row, with its generations. Times have microseconds and are
// UTC; the zero time is none.
type Credential struct {
	ID    string
	Team  string
	Name  string // unique among the team's that are neither revoked nor static
	State string
	Note  string // why it is in this state, for people

	// Static marks a row that only says the state of a credential which the
	// configuration has. It has no generations.
	Static bool

	Scopes     []string // what the credential narrows its team to; nil is all
	AllowedIPs []string // likewise

	NotBefore, Expires time.Time

	Created   time.Time // by the store's clock
	CreatedBy string    // as claimed
	Changed   time.Time // by the store's clock

	// Revision is that of the last change. It only grows, and no two changes
	// of a gateway share one.
	Revision int64

	// Generations are the keys that the credential has had, newest first.
	Generations []Generation

	Used Use
}

// Generation is one key of a credential.
type Generation struct {
	Number  int // from 1
	Hash    [32]byte
	Created time.Time

	// Ends is when the key stops working; zero is with its credential.
	Ends time.Time

	// EndsOnUse ends the key once the next one was used.
	EndsOnUse bool
}

// Use is when, from where and for what a credential was last used.
type Use struct {
	At        time.Time
	Address   string
	Operation string
}

// Filter chooses credentials. A zero field chooses all.
type Filter struct {
	Team          string
	States        []string
	ExpiresBefore time.Time // those that never expire are not chosen
	CreatedBefore time.Time
	UsedBefore    time.Time // those never used count as used when made

	After string // the id behind which the page begins
	Limit int    // of rows; 0 is 100
}

// Change tells that a credential was made or changed.
type Change struct {
	ID       string
	Revision int64
	At       time.Time // by the store's clock, no later than its commit
}

// Changes is what happened behind a revision, in the order of revisions.
type Changes struct {
	Now      time.Time // the store's clock
	Revision int64     // of the store as it was read; 0 before the first change
	List     []Change  // each credential once, with its last change
	More     bool      // the list was cut; ask again behind its last revision
}

// Replica is one process that serves the gateway.
type Replica struct {
	ID      string // new at each start
	Host    string
	Version string
	Started time.Time

	// Revision is up to where the replica has seen the changes.
	Revision int64

	// Silence is how long after Beat the replica may go on serving without
	// having heard from the store.
	Silence time.Duration

	Beat time.Time // by the store's clock
}

// Anchor is a signature of an audit log, kept outside of the log.
type Anchor struct {
	Log  string
	Day  string // of UTC, on which it was made
	Seq  int64  // of the line up to which it holds the log
	Note string // the signed note
}
