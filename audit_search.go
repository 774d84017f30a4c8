package scopegate

import (
	"bytes"
	"encoding/csv"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/audit/query"
)

// recordFormat is how found records are printed.
type recordFormat struct{ json, csv bool }

func (r *recordFormat) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&r.csv, "csv", false, "print CSV with a head")
	cmd.MarkFlagsMutuallyExclusive("json", "csv")
	cmd.Flags().Lookup("json").Usage = "print the records as they stand in the log, one JSON object a line"
}

func (r recordFormat) head(w io.Writer) error {
	switch {
	case r.json:
	case r.csv:
		c := csv.NewWriter(w)
		if err := query.CSVHead(c); err != nil {
			return err
		}
		c.Flush()
		return c.Error()
	default:
		query.TableHead(w)
	}
	return nil
}

// findings are the records that were found in a part of a log, printed.
type findings struct {
	recordFormat
	text  bytes.Buffer
	sheet *csv.Writer
	count int

	timed bool // to be put among those of other logs
	times []int64
	ends  []int // in the text
}

func (r recordFormat) findings() *findings {
	f := &findings{recordFormat: r}
	f.sheet = csv.NewWriter(&f.text)
	return f
}

func (f *findings) add(e *query.Entry) {
	f.count++
	switch {
	case f.json:
		f.text.Write(query.Safe(e.Line.Text))
		f.text.WriteByte('\n')
	case f.csv:
		_ = query.CSVRow(f.sheet, e) // into memory
		f.sheet.Flush()
	default:
		query.TableRow(&f.text, e)
	}
	if f.timed {
		f.times, f.ends = append(f.times, when(e)), append(f.ends, f.text.Len())
	}
}

func auditSearchCommand() *cobra.Command {
	l, f, r := &logFlags{}, &filterFlags{}, &recordFormat{}
	cmd := &cobra.Command{
		Use:   "search [<log>...]",
		Short: "Finds records in audit logs",
		Long: `Prints the records that are like all of the flags given, in the order of the log, and of
several logs, such as those of a fleet, in the order of their times. A flag may have
several words, by commas or by standing several times: any will do.

` + whichLog + `

Exit codes: 0 found, 1 not all of the log could be read, 2 called wrongly, 3 found
nothing.`,
		Example: `  scopegate audit search --config /etc/scopegate/Caddyfile --team billing --decision deny --since 24h
  scopegate audit search /var/log/scopegate/audit.jsonl --token c45c93de-de65-4adc-878f-101add7bf098 --json
  zcat audit-*.gz | scopegate audit search - --from 203.0.113.0/24 --since 2027-01-01 --until 2027-02-01 --csv`,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.json = l.json
			filter, err := f.filter(l.gateway, time.Now())
			if err != nil {
				return err
			}
			logs, err := l.logs(cmd, args)
			if err != nil {
				return err
			}
			p := &printed{recordFormat: *r, match: filter.Match, out: cmd.OutOrStdout()}
			totals, err := p.search(cmd, logs)
			if err == nil && p.found == 0 {
				err = f.nothing(totals, l)
			}
			return err
		},
	}
	l.add(cmd)
	f.add(cmd)
	r.add(cmd)
	return cmd
}
