package tokens

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests name zones
)

func load(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestParseMoment(t *testing.T) {
	for _, tc := range []struct {
		name, zone, text string
		earliest, latest string // UTC
	}{
		{"UTC", "UTC", "2027-01-31 23:59:59", "2027-01-31 23:59:59", "2027-01-31 23:59:59"},
		{"winter", "Europe/Prague", "2027-01-31 23:59:59", "2027-01-31 22:59:59", "2027-01-31 22:59:59"},
		{"summer", "Europe/Prague", "2027-07-31 23:59:59", "2027-07-31 21:59:59", "2027-07-31 21:59:59"},
		{"before the gap", "Europe/Prague", "2027-03-28 01:59:59", "2027-03-28 00:59:59", "2027-03-28 00:59:59"},
		{"behind the gap", "Europe/Prague", "2027-03-28 03:00:00", "2027-03-28 01:00:00", "2027-03-28 01:00:00"},
		{"before the second pass", "Europe/Prague", "2027-10-31 01:59:59", "2027-10-30 23:59:59", "2027-10-30 23:59:59"},
		{"twice, first", "Europe/Prague", "2027-10-31 02:00:00", "2027-10-31 00:00:00", "2027-10-31 01:00:00"},
		{"twice, last", "Europe/Prague", "2027-10-31 02:59:59", "2027-10-31 00:59:59", "2027-10-31 01:59:59"},
		{"behind the second pass", "Europe/Prague", "2027-10-31 03:00:00", "2027-10-31 02:00:00", "2027-10-31 02:00:00"},
		{"twice in half an hour", "Australia/Lord_Howe", "2027-04-04 01:45:00", "2027-04-03 14:45:00", "2027-04-03 15:15:00"},
		{"three quarters", "Pacific/Chatham", "2027-01-01 00:00:00", "2026-12-31 10:15:00", "2026-12-31 10:15:00"},
		{"unknown", "", "2027-01-31 12:00:00", "2027-01-31 12:00:00", "2027-02-01 00:00:00"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var z *time.Location
			if tc.zone != "" {
				z = load(t, tc.zone)
			}
			m, problem := parseMoment(tc.text, z)
			if problem != "" {
				t.Fatal(problem)
			}
			earliest, latest := m.earliest.UTC().Format(time.DateTime), m.latest.UTC().Format(time.DateTime)
			if earliest != tc.earliest || latest != tc.latest || m.text != tc.text {
				t.Errorf("%s is %s to %s, want %s to %s", m.text, earliest, latest, tc.earliest, tc.latest)
			}
		})
	}
}

// A time that the clock skips has no meaning, or as many as there are
// libraries. A whole day was skipped once.
func TestParseMomentRejectsWhatTheClockSkips(t *testing.T) {
	for _, tc := range []struct{ zone, text string }{
		{"Europe/Prague", "2027-03-28 02:00:00"},
		{"Europe/Prague", "2027-03-28 02:59:59"},
		{"America/New_York", "2027-03-14 02:30:00"},
		{"Australia/Lord_Howe", "2027-10-03 02:15:00"},
		{"Pacific/Apia", "2011-12-30 12:00:00"},
	} {
		if m, problem := parseMoment(tc.text, load(t, tc.zone)); !strings.Contains(problem, "does not exist in "+tc.zone) {
			t.Errorf("%s in %s: %v, %q", tc.text, tc.zone, m, problem)
		}
	}
}

func TestMomentBy(t *testing.T) {
	for _, tc := range []struct{ name, zone, limit, want string }{
		{"UTC", "UTC", "2027-01-31 23:59:59", "2027-01-31 23:59:59"},
		{"unknown", "", "2027-01-31 12:00:00", "2027-01-31 00:00:00"},
		{"before the gap", "Europe/Prague", "2027-03-28 00:59:59", "2027-03-28 01:59:59"},
		{"behind the gap", "Europe/Prague", "2027-03-28 01:00:00", "2027-03-28 03:00:00"},
		{"before the hour that comes twice", "Europe/Prague", "2027-10-30 23:59:59", "2027-10-31 01:59:59"},
		// At 02:00 the clock will be put back, and 02:00:00 may then be an
		// hour later than the limit.
		{"its first pass begins", "Europe/Prague", "2027-10-31 00:00:00", "2027-10-31 01:59:59"},
		{"its first pass ends", "Europe/Prague", "2027-10-31 00:59:59", "2027-10-31 01:59:59"},
		{"its second pass begins", "Europe/Prague", "2027-10-31 01:00:00", "2027-10-31 02:00:00"},
		{"its second pass ends", "Europe/Prague", "2027-10-31 01:59:59", "2027-10-31 02:59:59"},
		{"half an hour twice", "Australia/Lord_Howe", "2027-04-03 14:45:00", "2027-04-04 01:29:59"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var z *time.Location
			if tc.zone != "" {
				z = load(t, tc.zone)
			}
			limit, err := time.Parse(time.DateTime, tc.limit)
			if err != nil {
				t.Fatal(err)
			}
			if m := momentBy(limit.Add(999*time.Millisecond), z); m.text != tc.want || m.latest.After(limit) {
				t.Errorf("%s, over at %s; want %s", m.text, m.latest.UTC(), tc.want)
			}
		})
	}
}

var fuzzZones = []string{
	"UTC", "Europe/Prague", "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham", "Pacific/Apia", "Asia/Kathmandu",
	"Africa/Casablanca", "America/St_Johns", "Antarctica/Troll", "Pacific/Kiritimati", "Etc/GMT+12", "Europe/Dublin", "Africa/Monrovia",
}

// FuzzMoment holds a moment against its limit for any zone and limit.
func FuzzMoment(f *testing.F) {
	for i := range fuzzZones {
		f.Add(uint8(i), int64(1827103500)) // within an hour that comes twice in Prague
		f.Add(uint8(i), int64(1806195600))
		f.Add(uint8(i), int64(1325203200)) // round the day that Samoa skipped
	}
	f.Fuzz(func(t *testing.T, zone uint8, unix int64) {
		var z *time.Location
		if int(zone) < len(fuzzZones) {
			z = load(t, fuzzZones[zone])
		}
		// From 1970 to 2100: before it, zones moved by seconds.
		holdMoment(t, time.Unix((unix%4102444800+4102444800)%4102444800, 0), z)
	})
}

func TestMomentByRoundEveryChange(t *testing.T) {
	for _, name := range fuzzZones {
		z := load(t, name)
		change := time.Date(2026, 1, 1, 0, 0, 0, 0, z)
		for change.Year() < 2028 {
			if _, change = change.ZoneBounds(); change.IsZero() {
				break
			}
			for around := -2 * time.Hour; around <= 2*time.Hour; around += 15 * time.Minute {
				for _, second := range []time.Duration{-time.Second, 0, time.Second} {
					holdMoment(t, change.Add(around+second), z)
				}
			}
		}
	}
}

// holdMoment holds that the latest moment is over by the limit in every
// reading, that no later one is, and that its instants are what a clock in
// the zone says.
func holdMoment(t *testing.T, limit time.Time, z *time.Location) {
	t.Helper()
	m := momentBy(limit, z)
	if m.latest.After(limit) || m.latest.Before(m.earliest) {
		t.Fatalf("limit %s: %+v", limit.UTC(), m)
	}
	if again, problem := parseMoment(m.text, z); problem != "" || !again.latest.Equal(m.latest) || !again.earliest.Equal(m.earliest) {
		t.Fatalf("%+v parses as %+v, %s", m, again, problem)
	}
	if z != nil {
		for _, at := range []time.Time{m.earliest, m.latest} {
			if got := at.In(z).Format(time.DateTime); got != m.text {
				t.Fatalf("%s is shown at %s as %s", m.text, at.UTC(), got)
			}
		}
	}
	wall, err := time.Parse(time.DateTime, m.text)
	if err != nil {
		t.Fatal(err)
	}
	for ahead := time.Second; ahead < 3*time.Hour; ahead += 5*time.Minute - time.Second {
		if later, exists := momentOf(wall.Add(ahead), z); exists && !later.latest.After(limit) {
			t.Fatalf("limit %s: %s is over by then, %s is later", limit.UTC(), later.text, m.text)
		}
	}
}
