package logfile

import (
	"context"
	"errors"
	"runtime"
	"sync"
)

// Scan reads sources one behind the other and closes them. Each block is worked
// on by one of as many goroutines as there are processors; what comes of it is
// taken in the order of the log, by the caller's own goroutine, and so are
// faults. The block's text is valid until take returns.
//
// It ends early with the error of take, or when the context is done. What
// cannot be read is a fault, and no error: the rest is read nevertheless.
func Scan[T any](ctx context.Context, sources []Source, work func(Block) T, take func(T) error, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	s := &scan[T]{ctx: ctx, work: work, options: o, jobs: make(chan *job[T]), order: make(chan *job[T], 2*runtime.GOMAXPROCS(0))}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { s.read(sources) })
	for range runtime.GOMAXPROCS(0) {
		running.Go(s.labour)
	}
	for j := range s.order {
		if j.fault != nil {
			o.fault(j.fault)
			continue
		}
		result, ok := <-j.done
		if !ok {
			break
		}
		if err := take(result); err != nil {
			return err
		}
		if o.Progress != nil {
			o.Progress(j.read)
		}
		buffers.Put(&j.block.text)
	}
	return ctx.Err()
}

// Options say who is told of a scan besides those who do it. Both may be nil.
type Options struct {
	Fault    func(*ReadError)
	Progress func(read int64) // bytes of all sources, as they are stored
}

func (o Options) fault(f *ReadError) {
	if o.Fault != nil {
		o.Fault(f)
	}
}

type scan[T any] struct {
	ctx     context.Context
	work    func(Block) T
	options Options
	jobs    chan *job[T]
	order   chan *job[T]
	past    int64 // bytes of the sources before this one
}

// job is a block on its way, or a fault that stands in its place.
type job[T any] struct {
	block Block
	fault *ReadError
	read  int64
	done  chan T // closed without a result where the scan has ended
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func (s *scan[T]) read(sources []Source) {
	defer close(s.order)
	defer close(s.jobs)
	for i := range sources {
		if s.ctx.Err() != nil {
			Close(sources[i:])
			return
		}
		s.file(&sources[i])
	}
}

func (s *scan[T]) file(source *Source) {
	r, file, err := source.open()
	if err != nil {
		s.send(&job[T]{fault: &ReadError{File: source.Name, Err: err}})
		return
	}
	defer file.Close()
	defer func() { s.past += r.read.Load() }()
	for {
		buffer := buffers.Get().(*[]byte) //nolint:forcetypeassert // only these are stored in it
		block, err := r.Next(*buffer)
		var f *ReadError
		switch {
		case errors.As(err, &f):
			if !s.send(&job[T]{fault: f}) || !errors.Is(err, ErrTooLong) {
				return
			}
			continue
		case err != nil:
			return
		}
		j := &job[T]{block: block, read: s.past + r.read.Load(), done: make(chan T, 1)}
		if !s.send(j) {
			return
		}
		select {
		case s.jobs <- j:
		case <-s.ctx.Done():
			close(j.done)
			return
		}
	}
}

func (s *scan[T]) send(j *job[T]) bool {
	select {
	case s.order <- j:
		return true
	case <-s.ctx.Done():
		return false
	}
}

func (s *scan[T]) labour() {
	for j := range s.jobs {
		j.done <- s.work(j.block)
	}
}
