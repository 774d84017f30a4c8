package tokens

import (
	"fmt"
	"time"

	"github.com/scopegate/scopegate/policy"
)

// westmost is how far behind UTC the last zone of the world is: where the
// zone is unknown, the bound of a life is judged as if upstream were there.
const westmost = 12 * time.Hour

// moment is a wall time with the first and the last instant that it is taken
// for. They differ in the hour that a clock shows twice when it is put back,
// and where the zone is unknown. Then the first is the time in UTC: it only
// tells a slip of the pen from an expiry, and east of UTC upstream would end
// such a token early, which is no wider.
type moment struct {
	text             string // 'Y-m-d H:i:s'
	earliest, latest time.Time
}

// parseMoment reads a wall time in the one form that GoodAccess documents.
// PHP turns 2027-02-30 into March 2nd, and other parsers do other things: a
// time that does not exist is refused.
func parseMoment(text string, zone *time.Location) (m moment, problem string) {
	wall, err := time.Parse(time.DateTime, text)
	if err != nil || wall.Format(time.DateTime) != text {
		return moment{}, "expected a date and time that exist, written as 2027-01-31 23:59:59"
	}
	m, exists := momentOf(wall, zone)
	if !exists {
		return moment{}, fmt.Sprintf("does not exist in %s, where the clock is put forward past it", zone)
	}
	return m, ""
}

// momentOf finds the instants at which a clock in the zone shows wall, which
// is given as if it were UTC. In the gap of a clock that is put forward there
// is none.
func momentOf(wall time.Time, zone *time.Location) (m moment, exists bool) {
	m.text = wall.Format(time.DateTime)
	if zone == nil {
		m.earliest, m.latest = wall, wall.Add(westmost)
		return m, true
	}
	// Every offset that the zone has around then gets its try. A day on both
	// sides holds all offsets there are.
	const around = 26 * time.Hour
	for t, end := wall.Add(-around).In(zone), wall.Add(around); t.Before(end); {
		_, offset := t.Zone()
		at := wall.Add(-time.Duration(offset) * time.Second)
		if _, have := at.In(zone).Zone(); have == offset {
			if !exists || at.Before(m.earliest) {
				m.earliest = at
			}
			if !exists || at.After(m.latest) {
				m.latest = at
			}
			exists = true
		}
		_, next := t.ZoneBounds()
		if !next.After(t) { // zero: the zone has no further change
			break
		}
		t = next
	}
	return m, exists
}

// momentBy returns the latest moment which is over at limit in any reading.
func momentBy(limit time.Time, zone *time.Location) moment {
	limit = limit.Truncate(time.Second)
	if zone == nil {
		m, _ := momentOf(limit.Add(-westmost).UTC(), nil)
		return m
	}
	// What a clock shows at some instant exists.
	m, _ := momentOf(clockFace(limit, zone), zone)
	if m.latest.After(limit) {
		// The limit lies in an hour that comes twice, the first time. The
		// last moment that is over by then is the one before that hour.
		_, putBack := limit.In(zone).ZoneBounds()
		twice := m.latest.Sub(m.earliest)
		m, _ = momentOf(clockFace(putBack.Add(-twice-time.Second), zone), zone)
	}
	return m
}

// clockFace is what a clock in the zone shows, as if it were UTC.
func clockFace(t time.Time, zone *time.Location) time.Time {
	_, offset := t.In(zone).Zone()
	return t.Add(time.Duration(offset) * time.Second).UTC()
}

// narrowExpiry holds the expiry against the grant, whatever upstream takes it
// for. What may lie in the past is refused too: nobody knows whether upstream
// takes a past expiry for no expiry.
func (g *grant) narrowExpiry(asked moment) (granted moment, narrowed bool, refusal *Refusal) {
	refuse := func(detail string) (moment, bool, *Refusal) {
		if g.zone == nil {
			detail += " (the gateway does not know upstream's zone and assumes the worst: expires_zone)"
		}
		return moment{}, false, &Refusal{Reason: policy.MintExpiry, Field: fieldExpiresAt, Detail: detail}
	}
	if !asked.earliest.After(g.now) {
		return refuse("is not in the future")
	}
	if !asked.latest.After(g.until) {
		return asked, false, nil
	}
	last := momentBy(g.until, g.zone)
	if last.latest.After(g.until) || !last.earliest.After(g.now) {
		return refuse("is too late, and the grant ends too soon for any expiry that lies in the future")
	}
	if !g.clamp {
		return refuse("is too late: the latest permitted is " + last.text)
	}
	return last, true, nil
}
