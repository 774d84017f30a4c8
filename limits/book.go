package limits

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scopegate/scopegate/policy"
)

// Book is all that was counted for one gateway. It lives across reloads and
// is safe for concurrent use.
type Book struct {
	born time.Time
	seed maphash.Seed
	room int // of each shelf

	mu      sync.Mutex
	shelves map[Key]*shelf
	plans   []*Plan // the open ones, oldest first

	replicas atomic.Int64 // among which each limit is divided, this process being one
}

// NewBook returns an empty book.
func NewBook() *Book {
	b := &Book{
		born: time.Now(), seed: maphash.MakeSeed(), room: room,
		shelves: map[Key]*shelf{},
	}
	b.replicas.Store(1)
	return b
}

// Share divides each rate and each bound on requests at once among so many
// replicas, of which this process is one: from now on it admits its share and
// leaves the rest to the others. Less than 1 counts as 1.
//
// Replicas that all know of each other admit no more than the limit together,
// but for one each: a limit of fewer than there are replicas admits as many at
// once as there are. Where the load is uneven it errs to refusing, since what
// one replica does not use no other may. A replica that joins begins with a
// full share, as a process that starts does, and until the others have learnt
// of it they together admit up to one share more.
//
// What has run up stays, as over a reload: a share that grows is not filled up,
// or replicas that come and go would hand out fresh allowances.
func (b *Book) Share(replicas int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := int64(max(1, replicas))
	if b.replicas.Swap(n) != n {
		b.settle()
	}
}

// Plan is one configuration's view of a Book: which keys it limits, and to
// what. It is safe for concurrent use.
type Plan struct {
	book  *Book
	gates map[Key]gate
	doors map[Key]*door
}

// Plan opens a view of the book with these limits. Keys that are not named are
// not limited. What the book has counted stays counted. The newest open plan
// says what rate a bucket runs at; when it is closed, as after a load that
// failed, the one before it says so again.
func (b *Book) Plan(lims map[Key]Limit) *Plan {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := &Plan{
		book: b, gates: make(map[Key]gate, len(lims)), doors: make(map[Key]*door, len(lims)),
	}
	for key, lim := range lims {
		if lim == (Limit{}) {
			continue
		}
		g := gate{shelf: b.shelf(key), maxInFlight: int64(lim.MaxInFlight)}
		if lim.Rate != nil {
			g.rate, g.rated = *lim.Rate, true
		}
		p.gates[key] = g
	}
	for key := range p.gates {
		p.doors[key] = newDoor(p.gates, key, &b.replicas)
	}
	b.plans = append(b.plans, p)
	b.settle()
	return p
}

// Close ends the view. What only it named is forgotten. A second Close does
// nothing.
func (p *Plan) Close() {
	p.book.mu.Lock()
	defer p.book.mu.Unlock()
	i := slices.Index(p.book.plans, p)
	if i < 0 {
		return
	}
	p.book.plans = slices.Delete(p.book.plans, i, i+1)
	p.book.settle()
}

// Enter asks for one more request of a credential of a team. Both the team's
// limits and the credential's own must admit it. A credential with a name is
// one of the configuration and counted by that name, whichever of its keys it
// used; one without is counted by its id, which stays when its keys change.
// Every verdict is to be left again by Leave, refused or not.
func (p *Plan) Enter(team, name, id string, now time.Time) Verdict {
	key := Key{team, name}
	if name == "" {
		key.Credential = Each
	}
	d := p.doors[key]
	if d == nil {
		d = p.doors[Key{Team: team}]
	}
	if d == nil {
		return Verdict{Reason: policy.Allowed}
	}
	var whose owners
	if d.each {
		whose[credentialGate] = p.book.owner(id)
	}
	return d.enter(whose, now.Sub(p.book.born))
}

// owner is an id as the shelves know it: a number, which needs no memory of its
// own. The text would be worse: it is a part of the header that has the secret
// in it, and would keep all of it. Should two ids ever come to the same number,
// of 64 bits that nobody can foresee, they share a bucket.
func (b *Book) owner(id string) uint64 { return maphash.String(b.seed, id) }

// settle makes the shelves agree with the plans that are open, and with how
// many replicas there are.
func (b *Book) settle() {
	now, replicas := time.Now(), int(b.replicas.Load())
	for key, shelf := range b.shelves {
		named := false
		for _, p := range b.plans {
			_, ok := p.gates[key]
			named = named || ok
		}
		if !named {
			delete(b.shelves, key)
			continue
		}
		for _, p := range slices.Backward(b.plans) {
			if g := p.gates[key]; g.rated {
				shelf.tune(g.rate.among(replicas), now.Sub(b.born))
				break
			}
		}
	}
}

func (b *Book) shelf(key Key) *shelf {
	if b.shelves[key] == nil {
		b.shelves[key] = newShelf(b.room)
	}
	return b.shelves[key]
}
