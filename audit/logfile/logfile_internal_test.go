package logfile

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// seen is what a reader makes of a file, to be compared.
type seen struct {
	Text    string
	Number  int
	Offset  int64
	Ended   bool
	TooLong bool
}

// all reads a file whole. It must end, and tell of nothing but long lines
// unless a fault is expected.
func all(r *Reader) (list []seen, broken *ReadError) {
	_ = r.Each(func(l Line) error {
		list = append(list, seen{string(l.Text), l.Number, l.Offset, l.Ended, false})
		return nil
	}, func(f *ReadError) {
		if errors.Is(f, ErrTooLong) {
			list = append(list, seen{Number: f.Line, Offset: f.Offset, TooLong: true})
		} else {
			broken = f
		}
	})
	return list, broken
}

// expected takes a text apart in the plainest way.
func expected(text string, longest int) (list []seen) {
	offset, number := 0, 1
	for line := range strings.Lines(text) {
		plain, ended := strings.CutSuffix(line, "\n")
		s := seen{plain, number, int64(offset), ended, false}
		if len(plain) > longest {
			s = seen{Number: number, Offset: int64(offset), TooLong: true}
		}
		list = append(list, s)
		offset += len(line)
		number++
	}
	return list
}

func small(from io.Reader, size, longest int) *Reader {
	r := NewReader("log", from)
	r.size, r.longest = size, longest
	return r
}

func zip(t testing.TB, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zst(t testing.TB, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Whatever a file holds and however it comes, every line is told once, with its
// exact place.
func FuzzReader(f *testing.F) {
	f.Add([]byte("one\ntwo\n"), uint8(4), uint8(10))
	f.Add([]byte("one\n\n\ntwo"), uint8(1), uint8(3))
	f.Add([]byte("a line that is far too long\nx\n"), uint8(2), uint8(5))
	f.Add([]byte("x\na line that is far too long"), uint8(9), uint8(20))
	f.Add([]byte("1234\n12345\n123456\n1234"), uint8(3), uint8(5))
	f.Add([]byte("\x1f\x8b\x08\x00"), uint8(3), uint8(5))
	f.Add([]byte("\x28\xb5\x2f\xfd\x00"), uint8(3), uint8(5))
	f.Fuzz(func(t *testing.T, text []byte, size, longest uint8) {
		sz, long := int(size)+1, int(size)+1+int(longest)
		want := expected(string(text), long)
		for _, pack := range []func(testing.TB, []byte) []byte{zip, zst} {
			packed, _ := all(small(bytes.NewReader(pack(t, text)), sz, long))
			if diff := cmp.Diff(want, packed); diff != "" {
				t.Errorf("packed (-want +got):\n%s", diff)
			}
		}
		got, broken := all(small(iotest.OneByteReader(bytes.NewReader(text)), sz, long))
		if bytes.HasPrefix(text, []byte{0x1f, 0x8b}) || bytes.HasPrefix(text, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
			return // it must only end
		}
		if diff := cmp.Diff(want, got); diff != "" || broken != nil {
			t.Errorf("%v (-want +got):\n%s", broken, diff)
		}
	})
}

// A packed file that was cut or changed anywhere gives what can be had of it,
// and says that there was more.
func TestReaderTellsOfADamagedPackedFile(t *testing.T) {
	var text strings.Builder
	for n := range 500 {
		text.WriteString(strings.Repeat("x", n%97) + "\n")
	}
	for name, pack := range map[string]func(testing.TB, []byte) []byte{"gzip": zip, "zstd": zst} {
		t.Run(name, func(t *testing.T) { damaged(t, text.String(), pack(t, []byte(text.String()))) })
	}
}

func damaged(t *testing.T, text string, packed []byte) {
	t.Helper()
	whole := expected(text, 1000)
	for end := 4; end < len(packed); end++ {
		got, broken := all(small(bytes.NewReader(packed[:end]), 64, 1000))
		if broken == nil || !errors.Is(broken, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: %v", end, broken)
		}
		if len(got) > len(whole) || !slices.Equal(got, whole[:len(got)]) || broken.Line != len(got)+1 {
			t.Fatalf("cut at %d: %d lines, then %v", end, len(got), broken)
		}
	}
	for at := range packed {
		if at >= 3 && at < 10 {
			continue // flags, time and system say nothing of what is packed
		}
		changed := bytes.Clone(packed)
		changed[at] ^= 0x40
		got, broken := all(small(bytes.NewReader(changed), 64, 1000))
		if broken == nil && at > 3 && !slices.Equal(got, whole) {
			t.Errorf("a change at %d was not seen", at)
		}
	}
}

// A file that asks for gigabytes to be unpacked is refused.
func TestReaderRejectsAVastWindow(t *testing.T) {
	vast := "\x28\xb5\x2f\xfd\x00\xb0" // 2^32 bytes
	if _, broken := all(NewReader("log", strings.NewReader(vast+"\x09\x00\x00x"))); broken == nil || !errors.Is(broken, zstd.ErrWindowSizeExceeded) {
		t.Errorf("%v", broken)
	}
}

// A disk that fails under way is no end of the log.
func TestReaderTellsOfAFailedRead(t *testing.T) {
	fails := io.MultiReader(strings.NewReader("one\ntwo\nthr"), iotest.ErrReader(io.ErrNoProgress))
	got, broken := all(NewReader("log", fails))
	if len(got) != 2 || broken == nil || broken.Error() != "log:3: "+io.ErrNoProgress.Error() {
		t.Errorf("%v, %v", got, broken)
	}
}
