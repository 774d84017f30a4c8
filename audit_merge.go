package scopegate

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/audit/logfile"
	"github.com/scopegate/scopegate/audit/query"
)

// printed is the printed records that are asked for, of one log or of several.
// Those of several, such as a fleet's, are put in the order of their times.
type printed struct {
	recordFormat
	match func(*query.Entry) bool
	out   io.Writer
	found int
	meter *meter
}

// search prints the records of logs.
func (p *printed) search(cmd *cobra.Command, logs [][]logfile.Source) (query.Totals, error) {
	p.meter = newMeter(cmd, slices.Concat(logs...))
	if len(logs) == 1 {
		totals, err := query.Scan(cmd.Context(), logs[0], p.findings, p.add, p.write, p.meter.options())
		return totals, p.meter.end(totals, err)
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	var running sync.WaitGroup
	streams := make([]*stream, len(logs))
	for i, sources := range logs {
		s := &stream{parts: make(chan *findings)}
		streams[i] = s
		running.Go(func() { s.read(ctx, sources, p) })
	}
	err := p.merge(streams)
	cancel()
	running.Wait()
	var totals query.Totals
	for _, s := range streams {
		totals.Add(s.totals)
		if !errors.Is(s.err, context.Canceled) {
			err = errors.Join(err, s.err)
		}
	}
	err = errors.Join(err, cmd.Context().Err())
	return totals, p.meter.end(totals, err)
}

func (p *printed) add(part *findings, e *query.Entry) {
	if p.match(e) {
		part.add(e)
	}
}

func (p *printed) write(part *findings) error { return p.put(part.text.Bytes(), part.count) }

func (p *printed) put(text []byte, count int) error {
	if count == 0 {
		return nil
	}
	p.meter.clear()
	if p.found == 0 {
		if err := p.head(p.out); err != nil {
			return err
		}
	}
	p.found += count
	_, err := p.out.Write(text)
	return err
}

// merge prints what the streams bring, the earliest first.
func (p *printed) merge(streams []*stream) error {
	open := slices.DeleteFunc(slices.Clone(streams), func(s *stream) bool { return !s.more() })
	var text []byte
	count := 0
	for len(open) > 0 {
		s := slices.MinFunc(open, func(a, b *stream) int { return cmp.Compare(a.part.times[a.at], b.part.times[b.at]) })
		text, count = append(text, s.take()...), count+1
		if !s.waits() && len(text) < maxGathered {
			continue
		}
		if err := p.put(text, count); err != nil {
			return err
		}
		text, count = text[:0], 0
		if !s.more() {
			open = slices.DeleteFunc(open, func(o *stream) bool { return o == s })
		}
	}
	return nil
}

// maxGathered is how many bytes of several logs are written at once.
const maxGathered = 64 << 10

// stream is the records that are asked for of one log, as they come.
type stream struct {
	parts  chan *findings
	part   *findings
	at     int // the next record of the part
	begin  int // of its text
	totals query.Totals
	err    error
}

func (s *stream) read(ctx context.Context, sources []logfile.Source, p *printed) {
	defer close(s.parts)
	begin := func() *findings {
		f := p.findings()
		f.timed = true
		return f
	}
	s.totals, s.err = query.Scan(ctx, sources, begin, p.add, func(part *findings) error {
		if part.count == 0 {
			return nil
		}
		select {
		case s.parts <- part:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, p.meter.options())
}

// waits reports whether the next record is yet to come.
func (s *stream) waits() bool { return s.part == nil || s.at == len(s.part.times) }

// more reports whether there is a record, and waits for it.
func (s *stream) more() bool {
	if s.waits() {
		s.part, s.at, s.begin = <-s.parts, 0, 0
	}
	return s.part != nil
}

// take returns the printed record.
func (s *stream) take() []byte {
	text := s.part.text.Bytes()[s.begin:s.part.ends[s.at]]
	s.begin = s.part.ends[s.at]
	s.at++
	return text
}

// when is a record's time as a number, which is quick to compare.
func when(e *query.Entry) int64 {
	t := e.Time()
	if t.IsZero() {
		return 0
	}
	return t.Sub(time.Unix(0, 0)).Nanoseconds() // bounded, whatever the time is
}
