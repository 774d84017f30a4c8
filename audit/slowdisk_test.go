package audit

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A disk that hangs must not gather a waiting summary for every second of the
// flood, nor hold up those who are only counted, nor lose count of them.
func TestFloodWaitsWithOneSummaryForAHungDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writes, told atomic.Int64
		letGo := make(chan struct{})
		f := newFlood(func(suppressed, _ int) error {
			writes.Add(1)
			<-letGo
			told.Add(int64(suppressed))
			return nil
		})
		counted := int64(0)
		for range 10 {
			for range 50 {
				if !f.admit(netip.AddrFrom4([4]byte{192, 0, 2, 1})) {
					counted++
				}
			}
			time.Sleep(window)
			synctest.Wait()
			if n := writes.Load(); n != 1 {
				t.Fatalf("%d summaries are being written", n)
			}
		}
		close(letGo)
		synctest.Wait()
		time.Sleep(window)
		synctest.Wait()
		if told.Load() != counted || writes.Load() != 2 {
			t.Errorf("%d of %d told in %d summaries, want all in two", told.Load(), counted, writes.Load())
		}
		if err := f.close(); err != nil {
			t.Error(err)
		}
	})
}
