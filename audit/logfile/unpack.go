package logfile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds what unpacking a file takes in memory. It is four times what
// Caddy's writer, and `zstd` up to level 19, ask for.
const maxWindow = 32 << 20

// PackedName reports whether the name is one of a file that was compressed.
func PackedName(name string) bool {
	ext := filepath.Ext(name)
	return ext == ".gz" || ext == ".zst"
}

// plainName is a file's name before it was compressed.
func plainName(name string) string {
	if PackedName(name) {
		return strings.TrimSuffix(name, filepath.Ext(name))
	}
	return name
}

// Unpack reads what a file holds. What is compressed is known by how it begins,
// whatever its name is.
func Unpack(from io.Reader) (io.Reader, error) {
	plain := bufio.NewReaderSize(from, 64<<10)
	begin, _ := plain.Peek(4) // an error comes again
	switch {
	case bytes.HasPrefix(begin, []byte{0x1f, 0x8b}):
		unzipped, err := gzip.NewReader(plain)
		if err != nil {
			return nil, fmt.Errorf("unpacking it: %w", noEOF(err))
		}
		return packed{unzipped}, nil
	case bytes.Equal(begin, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		// Alone, it needs no goroutine that somebody would have to end.
		unpacked, err := zstd.NewReader(plain, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("unpacking it: %w", noEOF(err))
		}
		return packed{unpacked}, nil
	}
	return plain, nil
}

// packed says of a damaged file that it is one.
type packed struct{ from io.Reader }

func (p packed) Read(b []byte) (int, error) {
	n, err := p.from.Read(b)
	if err != nil && err != io.EOF { //nolint:errorlint // readers return it as it is
		err = fmt.Errorf("unpacking it: %w", err)
	}
	return n, err
}

// noEOF keeps a file that ends within its head from passing for an empty one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
