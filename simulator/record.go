package simulator

import (
	"net/http"
	"slices"
	"sync"
)

// Seen is one request as it arrived. Its Header holds secrets.
type Seen struct {
	// Number counts the requests from 1, so that a gap shows that older ones
	// were dropped.
	Number int
	// Operation is what the request was taken for, such as listMembers; ""
	// for a path or method that is none. It need not be what Method and Path
	// say at first sight: see the package comment.
	Operation string
	Method    string
	Host      string
	Path      string // escaped, not cleaned
	Query     string // raw
	Header    http.Header
	Body      []byte
}

// What Requests keeps at most, so that a long run cannot fill the memory.
const (
	maxSeen      = 1024
	maxSeenBytes = 32 << 20
)

// record holds the latest requests.
type record struct {
	mu    sync.Mutex
	total int
	bytes int
	list  []Seen
}

func (l *record) add(one Seen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total++
	one.Number = l.total
	l.list = append(l.list, one)
	l.bytes += one.size()
	for len(l.list) > maxSeen || l.bytes > maxSeenBytes {
		l.bytes -= l.list[0].size()
		l.list[0] = Seen{} // the array lives on for a while, its content need not
		l.list = l.list[1:]
	}
}

func (r Seen) size() int {
	n := len(r.Path) + len(r.Query) + len(r.Body)
	for name, values := range r.Header {
		for _, value := range values {
			n += len(name) + len(value)
		}
	}
	return n
}

// Requests returns the requests that arrived, oldest first: at most the last
// 1024 of them, and 32 MiB. They are recorded before they are answered. The
// headers and bodies are shared: do not change them.
func (s *Simulator) Requests() []Seen {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	return slices.Clone(s.record.list)
}

// Forget drops the recorded requests. The numbers go on.
func (s *Simulator) Forget() {
	s.record.mu.Lock()
	defer s.record.mu.Unlock()
	s.record.list, s.record.bytes = nil, 0
}

type seenKey struct{}

func seenIn(r *http.Request) Seen {
	seen, _ := r.Context().Value(seenKey{}).(Seen)
	return seen
}
