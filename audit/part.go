package audit

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// onDisk is a file, as far as it takes to put it onto the disk for certain.
type onDisk interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	size() (int64, error)
	datasync() error
}

// osFile is a file of the system.
type osFile struct{ *os.File }

func (f osFile) datasync() error { return datasync(f.File) }

func (f osFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// part is a file that the log is in, or was in until it was rolled.
type part struct {
	file    onDisk
	durable int64 // so many bytes are on the disk, or were when the process began
	doubted bool  // the last attempt to put it there has failed
}

var errDiskLost = errors.New("the disk has lost a part of the audit log that it had not taken for certain; see to the disk and restart the gateway")

// sync puts what was written onto the disk. After a failure a system may take
// what it could not write for written, and call the next attempt a success
// without any. So all that is not there for certain is written once more.
func (p *part) sync() error {
	size, err := p.file.size()
	if err != nil {
		return err
	}
	if p.doubted {
		if err := p.again(size); err != nil {
			return err
		}
	}
	if err := p.file.datasync(); err != nil {
		p.doubted = true
		return err
	}
	p.durable, p.doubted = size, false
	return nil
}

// again writes what may not be on the disk in its own place. Nobody else
// changes it: the log only grows.
func (p *part) again(size int64) error {
	buffer := make([]byte, 256<<10)
	for p.durable < size {
		chunk := buffer[:min(int64(len(buffer)), size-p.durable)]
		if _, err := p.file.ReadAt(chunk, p.durable); err != nil {
			return err
		}
		if bytes.IndexByte(chunk, 0) >= 0 { // no line has one: this is a hole
			return errDiskLost
		}
		if _, err := p.file.WriteAt(chunk, p.durable); err != nil {
			return err
		}
		if err := p.file.datasync(); err != nil {
			return err
		}
		p.durable += int64(len(chunk))
	}
	return nil
}
