package simulator

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// call is one permitted request to an operation.
type call struct {
	ids  []string // of the path, in order
	body []byte
	by   *token
	now  time.Time // in the account's zone
}

// action carries out an operation. It runs under the simulator's lock.
type action func(*call) reply

// resource is one kind of object and its five operations. A kind that lacks
// one leaves the fields unset which only that one needs.
type resource[T any] struct {
	noun string // in messages
	ids  []string
	rows map[string]*T

	listed   func(*T) any // as the list shows it
	shown    func(*T) any // as reading one shows it
	make     func(id, createdAt string) *T
	writable func(*T) any // points to the part that requests may set
	name     func(*T) string
	removed  func(id string) // unlinks what is gone

	// Whether a name in use is refused with 409 on creation and on change.
	// The API lists 409 for some kinds and not for others.
	uniqueNew, uniqueChanged bool
	// Whether changes and removals repeat the status in the answer's body.
	repeatsStatus bool
}

func (r *resource[T]) put(id string, row *T) {
	if r.rows == nil {
		r.rows = map[string]*T{}
	}
	r.ids = append(r.ids, id)
	r.rows[id] = row
}

func (r *resource[T]) has(id string) bool { return r.rows[id] != nil }

func (r *resource[T]) list(*call) reply {
	values := make([]any, 0, len(r.ids))
	for _, id := range r.ids {
		values = append(values, r.listed(r.rows[id]))
	}
	return listOf(values)
}

func (r *resource[T]) read(c *call) reply {
	row := r.rows[c.ids[0]]
	if row == nil {
		return notFound(r.noun)
	}
	return object(r.shown(row))
}

func (r *resource[T]) create(c *call) reply {
	id := newUUID()
	row := r.make(id, c.now.Format(time.DateTime))
	if err := decode(c.body, r.writable(row)); err != nil {
		return invalid(err.Error())
	}
	if r.uniqueNew && r.taken(row, "") {
		return conflict(r.noun + " with this name exists already")
	}
	r.put(id, row)
	return created(id, r.noun)
}

func (r *resource[T]) update(c *call) reply {
	row := r.rows[c.ids[0]]
	if row == nil {
		return notFound(r.noun)
	}
	changed := *row // a copy, so that a refused change leaves nothing behind
	if err := decode(c.body, r.writable(&changed)); err != nil {
		return invalid(err.Error())
	}
	if r.uniqueChanged && r.taken(&changed, c.ids[0]) {
		return conflict(r.noun + " with this name exists already")
	}
	*row = changed
	return r.done("updated")
}

func (r *resource[T]) remove(c *call) reply {
	id := c.ids[0]
	if !r.has(id) {
		return notFound(r.noun)
	}
	delete(r.rows, id)
	r.ids = slices.DeleteFunc(r.ids, func(have string) bool { return have == id })
	if r.removed != nil {
		r.removed(id)
	}
	return r.done("removed")
}

func (r *resource[T]) taken(row *T, except string) bool {
	for id, have := range r.rows {
		if id != except && r.name(have) == r.name(row) {
			return true
		}
	}
	return false
}

func (r *resource[T]) done(verb string) reply {
	message := r.noun + " " + verb + " successfully"
	if r.repeatsStatus {
		return reply{http.StatusOK, map[string]any{"status": http.StatusOK, "message": message}, plainReply}
	}
	return said(message)
}

// relation links objects of two kinds, in the order in which the path names
// them.
type relation struct {
	left, right interface{ has(id string) bool }
	pairs       map[[2]string]bool
}

func relate(left, right interface{ has(id string) bool }) *relation {
	return &relation{left, right, map[[2]string]bool{}}
}

func (l *relation) linked(left, right string) bool { return l.pairs[[2]string{left, right}] }

func (l *relation) add(c *call) reply {
	pair := [2]string(c.ids)
	switch {
	case !l.left.has(pair[0]) || !l.right.has(pair[1]):
		return notFound("Object")
	case l.pairs[pair]:
		return conflict("Relation exists already")
	}
	l.pairs[pair] = true
	return said("Relation created successfully")
}

func (l *relation) remove(c *call) reply {
	pair := [2]string(c.ids)
	if !l.pairs[pair] {
		return notFound("Relation")
	}
	delete(l.pairs, pair)
	return said("Relation removed successfully")
}

// forget drops the links of an object that is gone. Ids of different kinds
// are never equal, so both sides can be looked at.
func (l *relation) forget(id string) {
	for pair := range l.pairs {
		if pair[0] == id || pair[1] == id {
			delete(l.pairs, pair)
		}
	}
}

// decode reads a request body as encoding/json does: names in any letter
// case, the last of two equal ones wins, unknown ones are passed over, null
// and what is absent change nothing. No body is an object without members.
func decode(body []byte, into any) error {
	if len(strings.TrimSpace(string(body))) == 0 {
		return nil
	}
	err := json.Unmarshal(body, into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return errors.New("the body must be a JSON object")
		}
		return fmt.Errorf("%s has the wrong type", wrong.Field)
	}
	if err != nil {
		return errors.New("the body is not valid JSON")
	}
	return nil
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
