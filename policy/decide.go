// Package policy decides. It is given who asks, which operation they ask for
// and the facts around it, and answers allow or deny with one reason of a
// closed list. It does no I/O, knows no status code and reads no clock, so
// that the same question always has the same answer.
package policy

import (
	"net/netip"
	"time"

	"github.com/scopegate/scopegate/scopes"
)

// Facts is what is known of a request beyond its caller and its operation.
type Facts struct {
	// Client is the caller's address. The zero Addr, which is what an address
	// that could not be parsed becomes, is in no list and therefore refused
	// wherever there is one.
	Client netip.Addr

	// Limit is the verdict of the limits: Allowed, RateLimited or
	// TooManyInFlight. Whatever is not Allowed refuses.
	Limit Reason

	// Now is the time. The zero time is none: then everything is enforced.
	Now time.Time
}

// Decision is the answer. Only the reason Allowed allows.
type Decision struct {
	Reason    Reason
	Operation *scopes.Operation // nil where the path named none

	// WouldDeny is why an allowed request would be refused if its team were
	// not in shadow mode; Undecided where it would not be.
	WouldDeny Reason
}

// Allow reports whether the request may go on.
func (d Decision) Allow() bool { return d.Reason == Allowed }

// Decide answers whether the caller may do what the match names. The order
// of its questions is the order of refusals that callers see: address, path,
// method, scope, limits. Whatever it does not recognise it refuses.
func Decide(id *Identity, m scopes.Match, f Facts) Decision {
	d := enforce(id, m, f)
	if shadows(id.Team, m, f.Now) && (d.Reason == InsufficientScope || d.Reason == RateLimited || d.Reason == TooManyInFlight) {
		d.Reason, d.WouldDeny = Allowed, d.Reason
	}
	return d
}

// shadows reports whether a request is only watched. That is for documented
// reads alone: what changes something, what makes or shows tokens, and what
// nobody has documented is enforced in any case.
func shadows(t *Team, m scopes.Match, now time.Time) bool {
	if now.IsZero() || !now.Before(t.ShadowUntil) || m.Outcome != scopes.Matched {
		return false
	}
	op := m.Operation
	return op.Reads() && op.Documented() && !op.OfTokens()
}

func enforce(id *Identity, m scopes.Match, f Facts) Decision {
	d := Decision{Operation: m.Operation}
	switch {
	case !inside(f.Client, id.Team.AllowedIPs) || !inside(f.Client, id.AllowedIPs):
		d.Reason = ClientAddress
	case m.Outcome != scopes.Matched && m.Outcome != scopes.InvalidID:
		d.Reason = unmatched(m.Outcome)
	case m.Operation == nil:
		d.Reason = UnknownPath
	case !m.Operation.PermittedBy(id.Scopes):
		d.Reason = InsufficientScope
	case m.Outcome == scopes.InvalidID:
		// Behind the scope: who may not ask at all learns nothing of ids.
		d.Reason = InvalidID
	case f.Limit != Allowed:
		d.Reason = f.Limit
	default:
		d.Reason = Allowed
	}
	return d
}

// DecideBody answers for the one operation whose scope says less than its
// body can do: changing a member, where the body may set a password.
func DecideBody(id *Identity, setsPassword bool) Reason {
	if setsPassword && !id.Team.MemberPasswords {
		return MemberPassword
	}
	return Allowed
}

func unmatched(o scopes.Outcome) Reason {
	switch o {
	case scopes.NotCanonical:
		return PathNotCanonical
	case scopes.Off:
		return OperationOff
	case scopes.WrongMethod:
		return MethodNotAllowed
	default:
		return UnknownPath
	}
}

// inside reports whether the address is in the list. No list admits every
// address, an unusable one too; a list admits no address that is not in it.
func inside(a netip.Addr, list []netip.Prefix) bool {
	if len(list) == 0 {
		return true
	}
	if !a.IsValid() {
		return false
	}
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
