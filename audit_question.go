package scopegate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/audit/logfile"
	"github.com/scopegate/scopegate/audit/query"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/scopes"
)

// exitNothing is the exit code of a question to which no record is an answer:
// a script tells it from a log that could not be read.
const exitNothing = exitRefused

// questionCommands are the commands that read audit logs.
func questionCommands() []*cobra.Command {
	return []*cobra.Command{auditSearchCommand(), auditTailCommand(), auditStatsCommand(), auditShowCommand(), auditLearnCommand(), auditReplayCommand()}
}

// nothingError says that no record is an answer.
type nothingError struct{ text string }

// Error says what there is instead.
func (e *nothingError) Error() string { return e.text }

func (*nothingError) exitCode() int { return exitNothing }

// logFlags say which logs a question is about.
type logFlags struct{ configFlags }

const whichLog = `The logs are the files given, each with those that were rolled from it and lie beside
it, compressed or not; "-" is standard input. Without files they are those
that --config names: the gateway's, and that of the commands that work without it.

A line that is no record is told on standard error with its place, and passed over.`

func (l *logFlags) add(cmd *cobra.Command) {
	configFlag(cmd, &l.file, "configuration file; names the log where no files are given")
	cmd.Flags().StringVarP(&l.adapter, "adapter", "a", "", "config adapter; default: caddyfile, unless the file ends in .json")
	cmd.Flags().StringVar(&l.gateway, "gateway", "", "only records of the gateway of this name")
	cmd.Flags().BoolVar(&l.json, "json", false, "print JSON")
}

// teams are those of the configuration, where one is given.
func (l *logFlags) teams() (names []string) {
	if l.file == "" {
		return nil
	}
	found, err := l.load()
	if err != nil {
		return nil
	}
	for _, g := range found {
		for _, t := range g.Teams {
			names = append(names, t.Name)
		}
	}
	return names
}

// paths finds the logs.
func (l *logFlags) paths(files []string) ([]string, error) {
	if len(files) > 0 {
		return files, nil
	}
	if l.file == "" {
		return nil, misused("which log? Give its files, - for standard input, or --config with what the gateway runs")
	}
	found, err := l.load()
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, g := range found {
		path, err := g.auditFile()
		if err != nil {
			return nil, err
		}
		own, err := (&direct{g.Gateway}).commandLog()
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
		if _, err := os.Stat(own); err == nil {
			paths = append(paths, own)
		}
	}
	return paths, nil
}

// logs opens the logs, each with its files.
func (l *logFlags) logs(cmd *cobra.Command, files []string) ([][]logfile.Source, error) {
	paths, err := l.paths(files)
	if err != nil {
		return nil, err
	}
	var list [][]logfile.Source
	for _, log := range logfile.Logs(cmd.InOrStdin(), paths...) {
		sources, err := log.Sources()
		if err != nil {
			logfile.Close(slices.Concat(list...))
			if errors.Is(err, os.ErrNotExist) && len(files) == 0 {
				err = fmt.Errorf("%w; where a log is by default depends on the user and on XDG_DATA_HOME", err)
			}
			return nil, fmt.Errorf("opening the audit log: %w", err)
		}
		list = append(list, sources)
	}
	return list, nil
}

// sources opens the logs, one behind the other.
func (l *logFlags) sources(cmd *cobra.Command, files []string) ([]logfile.Source, error) {
	list, err := l.logs(cmd, files)
	return slices.Concat(list...), err
}

// ask goes through the records of the logs. Its error is that of a log of which
// not all could be read, too: then what was found is not all there is.
func ask[T any](cmd *cobra.Command, sources []logfile.Source, begin func() T, each func(T, *query.Entry), take func(T) error) (query.Totals, error) {
	m := newMeter(cmd, sources)
	totals, err := query.Scan(cmd.Context(), sources, begin, each, take, m.options())
	return totals, m.end(totals, err)
}

// meter tells a person who waits how far a question is, and of what is damaged.
type meter struct {
	mu    sync.Mutex
	to    io.Writer
	read  int64
	total int64
	next  time.Time // zero: nobody looks
	shown bool
	told  int64
}

// progressAfter is how long a question may take before progress is shown.
const progressAfter = time.Second

func newMeter(cmd *cobra.Command, sources []logfile.Source) *meter {
	m := &meter{to: cmd.ErrOrStderr()}
	for _, s := range sources {
		m.total += s.Size
	}
	if file, ok := m.to.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			m.next = time.Now().Add(progressAfter)
		}
	}
	return m
}

// options lets the meter know of one scan; of several there may be at once.
func (m *meter) options() logfile.Options {
	return logfile.Options{Fault: m.fault, Progress: m.progress()}
}

// progress returns what tells how much of some of the sources was read.
func (m *meter) progress() func(int64) {
	before := int64(0)
	return func(read int64) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.read += read - before
		before = read
		if m.next.IsZero() || time.Now().Before(m.next) {
			return
		}
		m.next, m.shown = time.Now().Add(progressAfter/5), true
		fmt.Fprintf(m.to, "\rread %d of %d MB ", m.read>>20, m.total>>20)
	}
}

// end is the error of a question that is over.
func (m *meter) end(totals query.Totals, err error) error {
	m.clear()
	if more := totals.Damaged - m.told; more > 0 {
		fmt.Fprintf(m.to, "and %d more lines that are no records\n", more)
	}
	if err == nil && totals.Unread > 0 {
		err = errors.New("not all of the log could be read")
	}
	return err
}

// clear makes room for what is printed.
func (m *meter) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shown {
		m.shown = false
		fmt.Fprint(m.to, "\r\x1b[K")
	}
}

func (m *meter) fault(f *logfile.ReadError) {
	m.clear()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told++
	fmt.Fprintf(m.to, "%s\n", query.Shown(f.Error()))
}

// filterFlags say which records are asked for.
type filterFlags struct {
	texts        map[query.Field]*[]string
	since, until string
	from         []string
}

// filters are the flags that ask for a text. Known are the words that there
// are, where they are known.
var filters = []struct {
	name  string
	field query.Field
	usage string
	known func() []string
}{
	{"team", query.Team, "of this team", nil},
	{"credential", query.Credential, "with the credential of this id", nil},
	{"operation", query.Operation, "of this operation, such as listMembers", operationNames},
	{"decision", query.Decision, "decided so: allow, deny", func() []string { return []string{string(audit.Allow), string(audit.Deny)} }},
	{"reason", query.Reason, "for this reason, such as insufficient_scope", reasonNames},
	{"would-deny", query.WouldDeny, "that shadow mode permitted, and that would be refused for this reason", reasonNames},
	{"phase", query.Phase, "of this phase: decided, ended, lost, summary, probe", func() []string {
		return []string{string(audit.Decided), string(audit.Ended), string(audit.Lost), string(audit.Summary), string(audit.Probe)}
	}},
	{"token", query.TokenID, "about the upstream token of this id", nil},
	{"change", query.Change, "of this change of a credential, such as revoke", nil},
	{"operator", query.Operator, "of changes that this operator made, as claimed", nil},
	{"id", query.UUID, "with this decision id", nil},
}

// catalogued are all operations that any configuration knows.
func catalogued() []*scopes.Operation {
	router, err := scopes.NewRouter(true, whoami)
	if err != nil {
		return nil // the catalogue's own tests hold that there is none
	}
	return router.Operations()
}

func operationNames() []string {
	var names []string
	for _, op := range catalogued() {
		names = append(names, op.ID)
	}
	return names
}

func reasonNames() []string {
	var names []string
	for _, r := range policy.Reasons() {
		names = append(names, r.String())
	}
	return names
}

func (f *filterFlags) add(cmd *cobra.Command) {
	f.texts = map[query.Field]*[]string{}
	for _, flag := range filters {
		f.texts[flag.field] = new([]string)
		cmd.Flags().StringSliceVar(f.texts[flag.field], flag.name, nil, "records "+flag.usage)
		if flag.known != nil {
			_ = cmd.RegisterFlagCompletionFunc(flag.name, cobra.FixedCompletions(flag.known(), cobra.ShellCompDirectiveNoFileComp))
		}
	}
	cmd.Flags().StringSliceVar(&f.from, "from", nil, "records of requests from this address or network")
	f.addTimes(cmd)
}

func (f *filterFlags) addTimes(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.since, "since", "", "records not before this time, date (its first moment in UTC), or so long ago, such as 24h")
	cmd.Flags().StringVar(&f.until, "until", "", "records before this time, date, or so long ago")
}

// filter reads the flags.
func (f *filterFlags) filter(gateway string, now time.Time) (query.Filter, error) {
	q := query.Filter{Texts: map[query.Field][]string{}}
	for field, texts := range f.texts {
		if len(*texts) > 0 {
			q.Texts[field] = *texts
		}
	}
	if gateway != "" {
		q.Texts[query.Gateway] = []string{gateway}
	}
	var err error
	if q.Since, err = momentFlag("since", f.since, now); err != nil {
		return q, err
	}
	if q.Until, err = momentFlag("until", f.until, now); err != nil {
		return q, err
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return q, misused("--since %s is not before --until %s", q.Since.Format(time.RFC3339), q.Until.Format(time.RFC3339))
	}
	q.From, err = fromFlag(f.from)
	return q, err
}

func fromFlag(texts []string) (list []netip.Prefix, err error) {
	for _, text := range texts {
		var n Network
		if err := n.UnmarshalText([]byte(text)); err != nil {
			return nil, misused("--from: %w", err)
		}
		list = append(list, n.Prefix)
	}
	return list, nil
}

// momentFlag reads a time as people write it.
func momentFlag(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	var d Date
	if d.UnmarshalText([]byte(text)) == nil {
		return d.At, nil
	}
	for _, layout := range []string{"2006-01-02 15:04", time.DateTime} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if ago, err := caddy.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, misused("--%s %q: expected a time such as 2027-01-31T12:00:00Z or \"2027-01-31 12:00\" (UTC), a date such as 2027-01-31, or how long ago, such as 24h or 7d", flag, text)
}

// nothing is the error where no record was found. It names the word that was
// probably meant where one is not known.
func (f *filterFlags) nothing(totals query.Totals, l *logFlags) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "no record is like that; %s", spanOf(totals))
	for _, flag := range filters {
		var words []string
		switch {
		case flag.known != nil:
			words = flag.known()
		case flag.field == query.Team:
			words = l.teams()
		}
		if len(words) == 0 {
			continue
		}
		for _, text := range *f.texts[flag.field] {
			if slices.Contains(words, text) {
				continue
			}
			fmt.Fprintf(&b, ". No %s %q is known", flag.name, text)
			if near := scopes.Nearest(text, words); near != "" {
				fmt.Fprintf(&b, "; did you mean %q?", near)
			}
		}
	}
	return &nothingError{b.String()}
}

// spanOf says what was gone through.
func spanOf(t query.Totals) string {
	if t.Records == 0 {
		return "the log holds no records"
	}
	return fmt.Sprintf("%d records were looked at, from %s to %s", t.Records, t.First.Format(time.RFC3339), t.Last.Format(time.RFC3339))
}

// fieldLines prints what has a value, one a line.
func fieldLines(w io.Writer, lines ...[2]string) {
	for _, l := range lines {
		if l[1] != "" {
			fmt.Fprintf(w, "%-12s%s\n", l[0], strings.TrimSpace(l[1]))
		}
	}
}
