package audit_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scopegate/scopegate/audit"
)

// v4 returns an address in a /24 of its own.
func v4(n uint32) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], n<<8|1)
	return netip.AddrFrom4(a)
}

// v6 returns an address in a /64 of its own.
func v6(n uint64) netip.Addr {
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	binary.BigEndian.PutUint32(a[4:], uint32(n))
	a[15] = 1
	return netip.AddrFrom16(a)
}

// unknown is the record of a request by nobody known.
func unknown() *audit.Record {
	return &audit.Record{Phase: audit.Decided, Decision: audit.Deny, Reason: "unknown_credential", Status: 401}
}

func attempt(t *testing.T, l *audit.Log, client netip.Addr, times int) {
	t.Helper()
	for range times {
		if err := l.Unidentified(unknown(), client); err != nil {
			t.Fatal(err)
		}
	}
}

// One client that is set up wrong is seen with its records; nobody is summed up
// who stayed below the budget.
func TestUnidentifiedRecordsTheFirstOfEachPrefix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f file
		l := open(t, &f, nil)
		for range 5 {
			attempt(t, l, v4(1), 3)
			attempt(t, l, v6(1), 3)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		records := f.records(t)
		if n := len(byPhase(records, audit.Decided)); n != 30 || len(records) != 30 {
			t.Errorf("%d records, %d of them decided, want 30", len(records), n)
		}
	})
}

// A flood fills no disk, and its end is told although nothing follows it.
func TestUnidentifiedRejectsAFloodFromOnePrefix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f file
		events := &counts{}
		l := open(t, &f, events)
		for n := range 5000 {
			addr := v4(7).As4()
			addr[3] = byte(n)
			attempt(t, l, netip.AddrFrom4(addr), 1)
		}
		attempt(t, l, v4(8), 1) // a neighbour still gets his record
		if n := len(f.records(t)); n != 4 {
			t.Errorf("%d records before the summary, want 4", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		records := f.records(t)
		summaries := byPhase(records, audit.Summary)
		if len(summaries) != 1 || sum(summaries, "suppressed") != 4997 || sum(summaries, "prefixes") != 1 {
			t.Errorf("summaries = %v, want one of 4997 from one prefix", summaries)
		}
		if events.suppressed != 4997 {
			t.Errorf("%d suppressed, want 4997", events.suppressed)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(f.records(t)); n != len(records) {
			t.Errorf("%d records after the flood, want none", n-len(records))
		}
	})
}

// An attacker with an IPv6 /32 has more prefixes than anybody counts: the table,
// the records and the disk stay bounded, and yet no attempt is lost count of.
func TestUnidentifiedRejectsAFloodFromManyPrefixes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f file
		l := open(t, &f, nil)
		const seconds, perSecond = 20, 3000
		for second := range uint64(seconds) {
			for n := range uint64(perSecond) {
				attempt(t, l, v6(second*perSecond+n), 1)
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		records := f.records(t)
		plain, summaries := byPhase(records, audit.Decided), byPhase(records, audit.Summary)
		if len(plain) != 10*seconds || len(summaries) != seconds {
			t.Errorf("%d records and %d summaries in %d seconds", len(plain), len(summaries), seconds)
		}
		if got := len(plain) + sum(summaries, "suppressed"); got != seconds*perSecond {
			t.Errorf("%d of %d attempts accounted for", got, seconds*perSecond)
		}
		if bytes := len(f.bytes()) / seconds; bytes > 4096 {
			t.Errorf("%d bytes a second", bytes)
		}
		for _, s := range summaries {
			// 1024 in the table less the 10 recorded ones, and one for all others.
			if s["prefixes"] != 1015.0 {
				t.Errorf("prefixes = %v, want the bounded count 1015", s["prefixes"])
			}
		}
	})
}

// Hiding in another notation or in the rest of one's network buys no budget.
func TestUnidentifiedRejectsEvasionWithinAPrefix(t *testing.T) {
	tests := []struct {
		name string
		a, b netip.Addr
		one  bool
	}{
		{"same address", netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.1"), true},
		{"same /24", netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.255"), true},
		{"next /24", netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.3.1"), false},
		{"mapped", netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.9"), true},
		{"mapped, next /24", netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("::ffff:192.0.3.1"), false},
		{"same /64", netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:1:2:3"), true},
		{"next /64", netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:0:1::1"), false},
		{"zone", netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("fe80::1%x"), true},
		{"unreadable", netip.Addr{}, netip.Addr{}, true},
		{"unreadable and not", netip.Addr{}, netip.MustParseAddr("0.0.0.1"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f file
				l := open(t, &f, nil)
				attempt(t, l, tt.a, 3)
				attempt(t, l, tt.b, 3)
				want := 6
				if tt.one {
					want = 3
				}
				if n := len(f.records(t)); n != want {
					t.Errorf("%d records, want %d", n, want)
				}
			})
		})
	}
}

// While the disk is full the flood goes on. The first summary that can be
// written tells of all of it.
func TestSummarySurvivesAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{room: 1 << 16}
		l := open(t, d, nil)
		attempt(t, l, v4(1), 3)
		for range 5 {
			attempt(t, l, v4(1), 100)
			d.free(0)
			time.Sleep(time.Second)
			synctest.Wait()
			for range 3 { // the records that this second would have
				if err := l.Unidentified(unknown(), v4(1)); err == nil {
					t.Error("a record was written on a full disk")
				}
			}
		}
		d.free(1 << 16)
		time.Sleep(time.Second)
		synctest.Wait()
		records := decode(t, d.data)
		summaries := byPhase(records, audit.Summary)
		if len(summaries) != 1 || sum(summaries, "suppressed") != 500 || sum(summaries, "prefixes") != 1 {
			t.Errorf("summaries = %v, want one of 500 from one prefix", summaries)
		}
	})
}

func TestCloseWritesTheLastSummary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f file
		l := open(t, &f, nil)
		attempt(t, l, v4(1), 10)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := sum(byPhase(f.records(t), audit.Summary), "suppressed"); got != 7 {
			t.Errorf("suppressed = %d, want 7", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(f.records(t)); n != 4 {
			t.Errorf("%d records, want 4", n)
		}
	})
}

func TestCloseTellsOfASummaryThatIsLost(t *testing.T) {
	d := &disk{room: 1 << 16}
	l := open(t, d, nil)
	attempt(t, l, v4(1), 4)
	d.free(0)
	if err := l.Close(); err == nil {
		t.Error("Close hid that the last summary was lost")
	}
}

// Whatever the order of attempts, failures, time and Close, each attempt that
// was said to be dealt with is a record or counted in a summary.
func TestUnidentifiedLosesCountOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f file
		l := open(t, &f, nil)
		var dealt atomic.Int64
		var wg sync.WaitGroup
		for worker := range uint64(8) {
			random := rand.New(rand.NewPCG(worker, 1))
			wg.Go(func() {
				for range 2000 {
					err := l.Unidentified(unknown(), v4(random.Uint32N(40)))
					switch {
					case err == nil:
						dealt.Add(1)
					case errors.Is(err, audit.ErrClosed):
						return
					default:
						t.Error(err)
					}
					if random.IntN(50) == 0 {
						time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
					}
				}
			})
		}
		time.Sleep(3 * time.Second)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		records := f.records(t)
		got := len(byPhase(records, audit.Decided)) + sum(byPhase(records, audit.Summary), "suppressed")
		if int64(got) != dealt.Load() {
			t.Errorf("%d of %d attempts accounted for", got, dealt.Load())
		}
	})
}
