package credential_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/store"
)

// million is a store of a million credentials that takes no memory.
type million struct{ row store.Credential }

func (m *million) Credential(_ context.Context, id string) (store.Credential, error) {
	m.row.ID = id
	return m.row, nil
}

// BenchmarkMillion says what a million credentials cost once all are known.
func BenchmarkMillion(b *testing.B) {
	const n = 1_000_000
	b.ReportAllocs()
	for b.Loop() {
		row := stored(credential.Generate())
		row.Name, row.Expires = "deploy-eu-west-1", now.Add(time.Hour)
		ids := make([]string, n)
		for i := range ids {
			ids[i] = fmt.Sprintf("%012d", i)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		static, err := credential.NewStatic(nil)
		if err != nil {
			b.Fatal(err)
		}
		cache := credential.NewCache(&million{row}, &loads{})
		d := credential.NewDirectory(cache, static, teams)
		var c credential.Credential
		for _, id := range ids {
			_, _ = d.Find(id, &c)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		rows, bytes := cache.Size()
		if rows != n {
			b.Fatalf("%d rows are known", rows)
		}
		heap := after.HeapAlloc - before.HeapAlloc
		b.ReportMetric(float64(heap+bytes)/n, "bytes/credential")
		b.ReportMetric(float64(heap)/n, "heap-bytes/credential")
		start := time.Now()
		for i := range n {
			if found, err := d.Find(ids[i*7919%n], &c); found != credential.Stored || err != nil {
				b.Fatal(found, err)
			}
		}
		b.ReportMetric(float64(time.Since(start).Nanoseconds())/n, "ns/find")
		cache.ForgetAll()
		runtime.KeepAlive(ids)
	}
}

// BenchmarkStatic says what the index of a configuration's credentials takes
// for each.
func BenchmarkStatic(b *testing.B) {
	const n = 10_000
	for b.Loop() {
		list := make([]*credential.Credential, n)
		for i := range list {
			key := credential.Generate()
			list[i] = &credential.Credential{
				Identity:  policy.Identity{Team: billing, Name: fmt.Sprintf("ci-%d", i), Scopes: billing.Scopes},
				Verifiers: []credential.Verifier{key.Verifier()}, State: credential.Active,
			}
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		static, err := credential.NewStatic(list)
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "heap-bytes/credential")
		runtime.KeepAlive(static)
		runtime.KeepAlive(list)
	}
}
