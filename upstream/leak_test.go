package upstream

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// pieces gives a body in pieces of the given lengths, over and over.
type pieces struct {
	rest    []byte
	lengths []byte
	next    int
	eager   bool // gives io.EOF with the last piece, not after it
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := min(1+int(p.lengths[p.next%len(p.lengths)]), len(b), len(p.rest))
	p.next++
	copy(b, p.rest[:n])
	p.rest = p.rest[n:]
	if p.eager && len(p.rest) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (*pieces) Close() error { return nil }

func marked(mark []byte) *token {
	return &token{forms: func() *forms { return &forms{marks: [][]byte{mark}} }}
}

// drain reads all that comes, in reads of the given length.
func drain(s *scanned, hold bool, length int) ([]byte, error) {
	defer s.release()
	if hold {
		s.hold()
	}
	var out []byte
	for {
		ready, err := s.next()
		if err != nil {
			return out, err
		}
		n := min(len(ready), length)
		out = append(out, ready[:n]...)
		s.took(n)
	}
}

// check holds, for any body in any pieces: a leak is found where there is
// one and nowhere else, all of a clean body comes through, and of one that is
// not no byte of the mark nor any after it.
func check(t *testing.T, body, mark, lengths []byte, hold bool, read int) {
	t.Helper()
	if len(lengths) == 0 {
		lengths = []byte{255}
	}
	s := newScanned(&pieces{rest: body, lengths: lengths, eager: read%2 == 0}, marked(mark))
	got, err := drain(&s, hold, read)
	at := bytes.Index(body, mark)
	switch {
	case at < 0 && !errors.Is(err, io.EOF):
		t.Fatalf("a clean body ended with %v", err)
	case at < 0 && !bytes.Equal(got, body):
		t.Fatalf("of a clean body of %d bytes %d came through", len(body), len(got))
	case at >= 0 && !errors.Is(err, ErrLeak):
		t.Fatalf("a leak at %d was not found: %v", at, err)
	case at >= 0 && (len(got) > at || !bytes.HasPrefix(body, got)):
		t.Fatalf("of a leak at %d, %d bytes came through", at, len(got))
	}
}

func FuzzScanned(f *testing.F) {
	f.Add([]byte("xxtokentokexx"), []byte("tokentoke"), []byte{0, 2, 1}, true, 3)
	f.Add([]byte("aaaaaaaab"), []byte("aaab"), []byte{1}, false, 1)
	f.Add([]byte(strings.Repeat("abac", 40)), []byte("abacabad"), []byte{3, 0}, false, 7)
	f.Add([]byte("tok"), []byte("token"), []byte{0}, true, 1)
	f.Fuzz(func(t *testing.T, body, mark, lengths []byte, hold bool, read int) {
		if len(mark) == 0 || len(mark) > maxToken {
			return
		}
		if read < 1 || read > holdBack {
			read = 512
		}
		check(t, body, mark, lengths, hold, read)
		// The same mark at every kind of place, its own repetition included.
		check(t, append(bytes.Clone(body), mark...), mark, lengths, hold, read)
		check(t, append(bytes.Clone(mark[:len(mark)-1]), mark...), mark, lengths, hold, read)
	})
}

// A token across the border of what is held back, and across the borders of
// later buffers, where a search of each buffer alone would miss it.
func TestScannedFindsMarksAcrossBorders(t *testing.T) {
	mark := []byte("gat_canary/0123456789")
	for _, border := range []int{holdBack, 2 * holdBack, 5 * holdBack} {
		for shift := -len(mark) - 1; shift <= 1; shift++ {
			body := bytes.Repeat([]byte("gat_canary/"), 6*holdBack/11)
			copy(body[border+shift:], mark)
			for _, lengths := range [][]byte{{255}, {0, 254, 17}} {
				check(t, body, mark, lengths, true, 32<<10)
			}
		}
	}
}

func TestScannedLetsNearMissesThrough(t *testing.T) {
	mark := []byte("abcabcabd")
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		body := make([]byte, r.IntN(3*holdBack))
		for i := range body {
			body[i] = "abc"[i%3]
			if r.IntN(40) == 0 {
				body[i] = "abcd"[r.IntN(4)]
			}
		}
		check(t, body, mark, []byte{byte(r.IntN(256)), byte(r.IntN(256))}, true, 1+r.IntN(holdBack))
	}
}

// What broke is told after what came before it, but for what might have been
// the beginning of the token.
func TestScannedKeepsABeginningWhenTheBodyBreaks(t *testing.T) {
	broke := errors.New("reset")
	src := io.NopCloser(io.MultiReader(strings.NewReader(`{"note":"gat_can`), &broken{broke}))
	s := newScanned(src, marked([]byte("gat_canary")))
	got, err := drain(&s, true, 512)
	if string(got) != `{"note":"` || !errors.Is(err, broke) {
		t.Errorf("got %q, %v", got, err)
	}
}

type broken struct{ err error }

func (b *broken) Read([]byte) (int, error) { return 0, b.err }

func BenchmarkScan(b *testing.B) {
	t, err := newToken("0123456789abcdef/0123456789abcdef+ABCDEF", "x")
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(strings.Repeat(`{"id":"0f8fad5b-d9cb-469f-a165-70867728950e","seen":"2026-11-24T00:00:00Z"},`, holdBack/77))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		s := newScanned(&pieces{rest: body, lengths: []byte{255}}, t)
		s.filled = copy(s.buf[:], body)
		s.scan()
		s.release()
	}
}
