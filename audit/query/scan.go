package query

import (
	"context"
	"time"

	"github.com/scopegate/scopegate/audit/logfile"
)

// maxTold bounds how many damaged lines are told of one by one; the rest is
// counted. A file that is no log at all has nothing but such lines.
const maxTold = 20

// Totals is what was gone through.
type Totals struct {
	Lines   int64     `json:"lines"`
	Records int64     `json:"records"`
	Damaged int64     `json:"damaged"` // lines that are no records
	Unread  int       `json:"unread"`  // files of which not all could be read
	First   time.Time `json:"first,omitzero"`
	Last    time.Time `json:"last,omitzero"`
}

// Add adds what was gone through elsewhere.
func (t *Totals) Add(o Totals) {
	t.Lines += o.Lines
	t.Records += o.Records
	t.Damaged += o.Damaged
	t.Unread += o.Unread
	t.span(o.First)
	t.span(o.Last)
}

func (t *Totals) span(at time.Time) {
	if at.IsZero() {
		return
	}
	if t.First.IsZero() || at.Before(t.First) {
		t.First = at
	}
	if at.After(t.Last) {
		t.Last = at
	}
}

// part is what comes of one block of a log.
type part[T any] struct {
	found  T
	totals Totals
	faults []*logfile.ReadError
}

// Scan goes through all records of the sources, on all processors. Each part
// of the log makes a T of its own: each is called for its records, which are
// gone when it returns, and take for every part in the order of the log.
//
// Lines that are no records are told, the first of them one by one, and are no
// errors, nor are files that cannot be read.
func Scan[T any](ctx context.Context, sources []logfile.Source, begin func() T, each func(T, *Entry), take func(T) error, o logfile.Options) (Totals, error) {
	var totals Totals
	tell := o.Fault
	o.Fault = func(f *logfile.ReadError) {
		if f.Err == logfile.ErrTooLong { //nolint:errorlint // it is never wrapped
			totals.Lines++
			totals.Damaged++
		} else {
			totals.Unread++
		}
		tell(f)
	}
	err := logfile.Scan(ctx, sources, func(b logfile.Block) part[T] {
		return work(b, begin(), each)
	}, func(p part[T]) error {
		if told := totals.Damaged; told < maxTold {
			for _, f := range p.faults[:min(int64(len(p.faults)), maxTold-told)] {
				tell(f)
			}
		}
		totals.Add(p.totals)
		return take(p.found)
	}, o)
	return totals, err
}

func work[T any](b logfile.Block, found T, each func(T, *Entry)) part[T] {
	p := part[T]{found: found}
	var e Entry
	var first, last []byte
	for line := range b.Lines() {
		p.totals.Lines++
		record, err := e.Parse(line)
		if err != nil {
			p.totals.Damaged++
			if len(p.faults) < maxTold {
				p.faults = append(p.faults, &logfile.ReadError{File: line.File, Line: line.Number, Offset: line.Offset, Err: err})
			}
			continue
		}
		if !record {
			continue
		}
		p.totals.Records++
		if first == nil {
			first = e.raw[TS]
		}
		last = e.raw[TS]
		each(found, &e)
	}
	for _, ts := range [][]byte{first, last} {
		if t, err := time.Parse(time.RFC3339, string(ts)); err == nil {
			p.totals.span(t.UTC())
		}
	}
	return p
}
