package query

import (
	"net/netip"
	"slices"
	"time"
)

// Filter says which records are asked for. Of several texts for one field any
// will do; what is not set asks for nothing.
type Filter struct {
	Texts map[Field][]string
	Since time.Time // not before
	Until time.Time // before
	From  []netip.Prefix
}

// Match reports whether a record is asked for.
func (f *Filter) Match(e *Entry) bool {
	for field, wanted := range f.Texts {
		if !slices.ContainsFunc(wanted, func(text string) bool { return e.Is(field, text) }) {
			return false
		}
	}
	if !f.Since.IsZero() || !f.Until.IsZero() {
		t := e.Time()
		if t.IsZero() || t.Before(f.Since) || !f.Until.IsZero() && !t.Before(f.Until) {
			return false
		}
	}
	if len(f.From) > 0 {
		client := e.Client()
		return slices.ContainsFunc(f.From, func(p netip.Prefix) bool { return p.Contains(client) })
	}
	return true
}
