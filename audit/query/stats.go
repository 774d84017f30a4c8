package query

import (
	"bytes"
	"cmp"
	"slices"
)

// maxNames bounds how many names are counted apart. There are far fewer teams,
// operations and credentials; a file that somebody made up may hold any number.
const maxNames = 10_000

// Others is what names are counted under beyond that, and what has no name.
const (
	Others = "(others)"
	None   = "-"
)

// Count is how many requests of one name there were.
type Count struct {
	Name    string `json:"name,omitempty"`
	Allowed int64  `json:"allowed"`
	Denied  int64  `json:"denied"`
}

// Total is all of them.
func (c Count) Total() int64 { return c.Allowed + c.Denied }

// Counts are counts by name.
type Counts map[string]*Count

// of returns the count of a name as it stands in a line.
func (c Counts) of(raw []byte) *Count {
	if bytes.IndexByte(raw, '\\') < 0 {
		if n, ok := c[string(raw)]; ok { // the compiler copies nothing for this
			return n
		}
	}
	return c.named(cmp.Or(unescape(raw), None))
}

func (c Counts) named(text string) *Count {
	if _, ok := c[text]; !ok && len(c) >= maxNames {
		text = Others
	}
	if c[text] == nil {
		c[text] = &Count{Name: text}
	}
	return c[text]
}

func (c Counts) count(e *Entry, f Field, allowed bool) {
	n := c.of(e.raw[f])
	if allowed {
		n.Allowed++
	} else {
		n.Denied++
	}
}

func (c Counts) merge(o Counts) {
	for name, more := range o {
		n := c.named(name)
		n.Allowed += more.Allowed
		n.Denied += more.Denied
	}
}

// Top lists counts, the largest first; all of them for 0.
func (c Counts) Top(n int) []Count {
	list := make([]Count, 0, len(c))
	for _, one := range c {
		list = append(list, *one)
	}
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Total(), a.Total()), cmp.Compare(a.Name, b.Name))
	})
	if n > 0 && n < len(list) {
		list = list[:n]
	}
	return list
}

// Stats is what a log holds, in numbers.
type Stats struct {
	Records    int64
	Requests   Count // that were decided
	Changes    int64 // by operators and by the gateway itself
	Suppressed int64 // failed identifications that have no record each

	Teams, Operations, Credentials, Clients Counts
	Refused                                 Counts // why
	WouldDeny                               Counts // for what shadow mode permitted
	Ended                                   Counts // what became of what was permitted
}

// NewStats begins to count.
func NewStats() *Stats {
	return &Stats{
		Teams: Counts{}, Operations: Counts{}, Credentials: Counts{}, Clients: Counts{},
		Refused: Counts{}, WouldDeny: Counts{}, Ended: Counts{},
	}
}

// Add counts a record. A request is counted when it is decided, and once more
// by how it ended.
func (s *Stats) Add(e *Entry) {
	s.Records++
	s.Suppressed += e.Number(Suppressed)
	switch {
	case e.Is(Phase, "ended") && e.ByCaller():
		s.Ended.count(e, Reason, true)
	case !e.Is(Phase, "decided"):
	case !e.ByCaller():
		s.Changes++
	default:
		s.decided(e, e.Is(Decision, "allow"))
	}
}

func (s *Stats) decided(e *Entry, allowed bool) {
	if allowed {
		s.Requests.Allowed++
	} else {
		s.Requests.Denied++
		s.Refused.count(e, Reason, false)
	}
	if e.Has(WouldDeny) {
		s.WouldDeny.count(e, WouldDeny, allowed)
	}
	s.Teams.count(e, Team, allowed)
	s.Operations.count(e, Operation, allowed)
	s.Clients.count(e, ClientIP, allowed)
	if e.Has(Credential) {
		s.Credentials.count(e, Credential, allowed)
	}
}

// Merge adds what was counted elsewhere.
func (s *Stats) Merge(o *Stats) {
	s.Records += o.Records
	s.Requests.Allowed += o.Requests.Allowed
	s.Requests.Denied += o.Requests.Denied
	s.Changes += o.Changes
	s.Suppressed += o.Suppressed
	s.Teams.merge(o.Teams)
	s.Operations.merge(o.Operations)
	s.Credentials.merge(o.Credentials)
	s.Clients.merge(o.Clients)
	s.Refused.merge(o.Refused)
	s.WouldDeny.merge(o.WouldDeny)
	s.Ended.merge(o.Ended)
}
