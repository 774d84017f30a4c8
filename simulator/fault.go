package simulator

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/scopegate/scopegate/scopes"
)

// Fault makes requests to an operation go wrong.
type Fault struct {
	// Operation is the id of the operation, such as createToken. Default: any
	// operation of the API; requests that match none are never hit.
	Operation string
	// Times is how many requests are hit. Default: all, until it is healed.
	Times int
	// Effect is what goes wrong. Required.
	Effect Effect
}

// Effect takes the place of an operation's answer. It is called before the
// token is looked at. To carry the operation out, checks and all, it calls
// answer, once, and sends what it likes of the outcome: so the account can
// have changed and the caller not know. An Effect of your own is a function:
//
//	func(w http.ResponseWriter, r *http.Request, answer func() simulator.Answer) {
//		a := answer()
//		a.Body = bytes.ReplaceAll(a.Body, []byte(`"id"`), []byte(`"uid"`))
//		a.Send(w)
//	}
type Effect func(w http.ResponseWriter, r *http.Request, answer func() Answer)

// Fail switches a fault on and returns the function that heals it, which may
// be called more than once. Of several faults that fit a request, the one
// that was switched on first hits it, and only that one. Fail panics on an
// unknown operation and on a missing effect: such a fault would never show,
// and the test that relies on it would prove nothing.
func (s *Simulator) Fail(f Fault) (heal func()) {
	known := func(op *scopes.Operation) bool { return op.ID == f.Operation }
	switch {
	case f.Operation != "" && !slices.ContainsFunc(scopes.Operations(), known):
		panic(fmt.Sprintf("simulator: fault for the unknown operation %q", f.Operation))
	case f.Effect == nil:
		panic("simulator: fault without an effect")
	case f.Times < 0:
		panic("simulator: fault with a negative number of times")
	}
	on := &f
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, on)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.heal(on)
	}
}

func (s *Simulator) heal(gone *Fault) {
	s.faults = slices.DeleteFunc(s.faults, func(f *Fault) bool { return f == gone })
}

// fault returns the effect that hits a request now, nil for none.
func (s *Simulator) fault(operation string) Effect {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Operation != "" && f.Operation != operation {
			continue
		}
		switch f.Times {
		case 0: // no end
		case 1:
			s.heal(f)
		default:
			f.Times--
		}
		return f.Effect
	}
	return nil
}
