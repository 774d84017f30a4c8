package audit_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/scopegate/scopegate/audit"
)

// benchRecords are the two records of a plain request, and a mint's.
var benchRecords = map[string]audit.Record{
	"decided": *decided(),
	"ended": func() audit.Record {
		r := *decided()
		r.Phase, r.Complete = audit.Ended, true
		r.Status, r.UpstreamStatus, r.Duration, r.Size = 200, 200, 12345*time.Microsecond, 4711
		return r
	}(),
	"mint": func() audit.Record {
		r := *decided()
		r.TokenID = "7f1c8f0e-6d0a-4b3a-9d53-1f6f3f4d2a10"
		r.RequestedScopes = []string{"members.read", "members.read-all", "groups.read"}
		r.GrantedScopes = r.RequestedScopes[:2]
		r.ExpiresAt = "2027-01-31 00:00:00"
		r.AllowedIPs = []string{"203.0.113.0/24"}
		r.Clamped = []string{"allowed_scopes"}
		return r
	}(),
}

func BenchmarkWrite(b *testing.B) {
	for name, r := range benchRecords {
		b.Run(name, func(b *testing.B) {
			l := open(b, io.Discard, nil)
			b.ReportAllocs()
			for b.Loop() {
				if err := l.Write(&r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWriteParallel(b *testing.B) {
	l := open(b, io.Discard, nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := decided()
		for pb.Next() {
			if err := l.Write(r); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkWriteMirrored(b *testing.B) {
	l := open(b, io.Discard, nil, io.Discard)
	r := decided()
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Write(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteFile(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "audit.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	l := open(b, f, nil)
	r := decided()
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Write(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSuppressed(b *testing.B) {
	l := open(b, io.Discard, nil)
	r := unknown()
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Unidentified(r, v4(1)); err != nil {
			b.Fatal(err)
		}
	}
}
