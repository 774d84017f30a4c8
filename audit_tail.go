package scopegate

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/audit/logfile"
	"github.com/scopegate/scopegate/audit/query"
)

// lookEvery is how often a log that is followed is looked at.
const lookEvery = 250 * time.Millisecond

// atOnce bounds how many records are held to be put in order.
const atOnce = 10_000

// tail prints the last records of logs, and goes on with those that come.
type tail struct {
	recordFormat
	filter query.Filter
	meter  *meter
	to     io.Writer
	keep   int     // how many of the last records are printed first
	last   []timed // those that wait to be printed
	live   bool    // the first were printed
	many   bool    // there are several logs
}

// timed is a record and when it was written.
type timed struct {
	at   int64
	line logfile.Line
}

func auditTailCommand() *cobra.Command {
	l, f, r := &logFlags{}, &filterFlags{}, &recordFormat{}
	var follow bool
	n := 10
	cmd := &cobra.Command{
		Use:   "tail [<log>...]",
		Short: "Prints the last records of audit logs, and those that come",
		Long: `Prints the last records that are like all of the flags given and, with --follow, those
that come, until it is interrupted; of several logs in the order of their times. It goes on over rotations: no record is missed or
printed twice, however often the log is rolled.

The logs are the files given, without those that were rolled from them before. Without
files they are those that --config names. A line that is no record is told on standard
error with its place, and passed over.

Exit codes: 0 done, 1 a log could not be read, 2 called wrongly, 3 without --follow,
there was nothing to print.`,
		Example: `  scopegate audit tail --follow --config /etc/scopegate/Caddyfile --decision deny
  scopegate audit tail -n 50 /var/log/scopegate/audit.jsonl --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.json = l.json
			filter, err := f.filter(l.gateway, time.Now())
			if err != nil {
				return err
			}
			if n < 0 {
				return misused("--lines must not be negative")
			}
			paths, err := l.paths(args)
			if err != nil {
				return err
			}
			if slices.Contains(paths, logfile.Stdin) {
				return misused("standard input has no end to begin at: use `search -`")
			}
			t := &tail{recordFormat: *r, filter: filter, meter: newMeter(cmd, nil), to: cmd.OutOrStdout(), keep: n}
			ticker := time.NewTicker(lookEvery)
			defer ticker.Stop()
			return t.run(cmd.Context(), paths, follow, ticker.C)
		},
	}
	l.add(cmd)
	f.add(cmd)
	r.add(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with the records that come")
	cmd.Flags().IntVarP(&n, "lines", "n", n, "how many of the last records to print first")
	return cmd
}

func (t *tail) run(ctx context.Context, paths []string, follow bool, look <-chan time.Time) error {
	var logs []*logfile.Follower
	var first []timed
	t.many = len(paths) > 1
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil && !follow {
			return fmt.Errorf("opening the audit log: %w", err)
		}
		log := logfile.Follow(path)
		defer log.Close()
		logs = append(logs, log)
		if err := log.Poll(t.line, t.fault); err != nil {
			return err
		}
		if !follow {
			if err := log.Rest(t.line); err != nil {
				return err
			}
		}
		first, t.last = append(first, t.last...), nil
	}
	t.last = first
	if err := t.begin(follow); err != nil || !follow {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look:
		}
		for _, log := range logs {
			if err := log.Poll(t.line, t.fault); err != nil {
				return err
			}
		}
		if err := t.print(); err != nil {
			return err
		}
	}
}

// begin prints the last records of what there was.
func (t *tail) begin(follow bool) error {
	if len(t.last) == 0 && !follow {
		return &nothingError{"no record is like that in the log as it is since it was last rolled; `search` reads what was rolled, too"}
	}
	if err := t.head(t.to); err != nil {
		return err
	}
	return t.print()
}

// print prints the records that wait. Of several logs they are those of one
// look at each, and are put in the order of their times.
func (t *tail) print() error {
	if t.many { // one has an order of its own, whatever its clock did
		slices.SortStableFunc(t.last, func(a, b timed) int { return cmp.Compare(a.at, b.at) })
	}
	if !t.live {
		t.last = t.last[max(0, len(t.last)-t.keep):]
	}
	t.live = true
	for _, one := range t.last {
		var e query.Entry
		if _, err := e.Parse(one.line); err != nil {
			return err // it was parsed before
		}
		found := t.findings()
		found.add(&e)
		if _, err := t.to.Write(found.text.Bytes()); err != nil {
			return err
		}
	}
	t.last = nil
	return nil
}

func (t *tail) line(line logfile.Line) error {
	var e query.Entry
	record, err := e.Parse(line)
	if err != nil {
		t.fault(&logfile.ReadError{File: line.File, Line: line.Number, Offset: line.Offset, Err: err})
		return nil
	}
	if !record || !t.filter.Match(&e) {
		return nil
	}
	line.Text = bytes.Clone(line.Text)
	t.last = append(t.last, timed{when(&e), line})
	switch {
	case !t.live && len(t.last) > t.keep:
		t.last = t.last[1:]
	case t.live && len(t.last) > atOnce:
		return t.print()
	}
	return nil
}

// fault tells of what cannot be read: of what there was only so much, of what
// comes each.
func (t *tail) fault(f *logfile.ReadError) {
	const enough = 20
	if t.live || t.meter.told < enough {
		t.meter.fault(f)
	}
}
