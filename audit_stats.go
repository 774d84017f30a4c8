package scopegate

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/audit/query"
)

// stats are the numbers of a log as they are printed as JSON.
type stats struct {
	query.Totals
	Requests    query.Count   `json:"requests"`
	Changes     int64         `json:"changes"`
	Suppressed  int64         `json:"suppressed"`
	Teams       []query.Count `json:"teams"`
	Operations  []query.Count `json:"operations"`
	Credentials []query.Count `json:"credentials"`
	Clients     []query.Count `json:"clients"`
	Refused     []query.Count `json:"refused"`
	WouldDeny   []query.Count `json:"would_deny"`
	Ended       []query.Count `json:"ended"`
}

func auditStatsCommand() *cobra.Command {
	l, f := &logFlags{}, &filterFlags{}
	var top int
	cmd := &cobra.Command{
		Use:   "stats [<log>...]",
		Short: "Counts what audit logs hold",
		Long: `Counts requests by team, operation, credential and client address, refusals by their
reason, and how what was permitted ended. A request counts when it is decided.

` + whichLog + `

Exit codes: 0 done, 1 not all of the log could be read, and the numbers are of what
could, 2 called wrongly, 3 there is nothing to count.`,
		Example: `  scopegate audit stats --config /etc/scopegate/Caddyfile --since 7d
  scopegate audit stats replica-*/audit.jsonl --team billing --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if top < 0 {
				return misused("--top must not be negative")
			}
			filter, err := f.filter(l.gateway, time.Now())
			if err != nil {
				return err
			}
			sources, err := l.sources(cmd, args)
			if err != nil {
				return err
			}
			all := query.NewStats()
			totals, err := ask(cmd, sources, query.NewStats, func(part *query.Stats, e *query.Entry) {
				if filter.Match(e) {
					part.Add(e)
				}
			}, func(part *query.Stats) error {
				all.Merge(part)
				return nil
			})
			if err == nil && all.Records == 0 {
				return f.nothing(totals, l)
			}
			s := stats{
				totals, all.Requests, all.Changes, all.Suppressed, all.Teams.Top(top), all.Operations.Top(top),
				all.Credentials.Top(top), all.Clients.Top(top), all.Refused.Top(top), all.WouldDeny.Top(top), all.Ended.Top(top),
			}
			if l.json {
				return errors.Join(err, printJSON(cmd.OutOrStdout(), s))
			}
			s.print(cmd.OutOrStdout())
			return err
		},
	}
	l.add(cmd)
	f.add(cmd)
	cmd.Flags().IntVar(&top, "top", 10, "how many names of each table to print, the busiest first; 0 is all")
	return cmd
}

func (s *stats) print(w io.Writer) {
	fieldLines(w,
		[2]string{"looked at", spanOf(s.Totals)},
		[2]string{"requests", fmt.Sprintf("%d: %d allowed, %d denied", s.Requests.Total(), s.Requests.Allowed, s.Requests.Denied)},
		[2]string{"changes", fmt.Sprintf("%d, by operators and by the gateway itself", s.Changes)},
		[2]string{"suppressed", fmt.Sprintf("%d failed identifications that were only counted", s.Suppressed)},
		[2]string{"damaged", fmt.Sprintf("%d lines", s.Damaged)},
	)
	for _, table := range []struct {
		title  string
		counts []query.Count
	}{
		{"TEAM", s.Teams},
		{"OPERATION", s.Operations},
		{"CREDENTIAL", s.Credentials},
		{"CLIENT", s.Clients},
	} {
		printCounts(w, table.counts, table.title+"\tREQUESTS\tALLOWED\tDENIED", func(c query.Count) string {
			return fmt.Sprintf("%s\t%d\t%d\t%d", query.Shown(c.Name), c.Total(), c.Allowed, c.Denied)
		})
	}
	short := func(c query.Count) string { return fmt.Sprintf("%s\t%d", query.Shown(c.Name), c.Total()) }
	printCounts(w, s.Refused, "REFUSED SINCE\tREQUESTS", short)
	printCounts(w, s.WouldDeny, "ONLY SHADOW MODE PERMITTED\tREQUESTS", short)
	printCounts(w, s.Ended, "PERMITTED, AND ENDED\tREQUESTS", short)
}

func printCounts(w io.Writer, counts []query.Count, head string, row func(query.Count) string) {
	if len(counts) == 0 {
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\n%s\n", head)
	for _, c := range counts {
		fmt.Fprintln(table, row(c))
	}
	_ = table.Flush() // a failed write shows in the command's last one
}
