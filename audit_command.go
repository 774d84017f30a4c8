package scopegate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/audit/logfile"
	"github.com/scopegate/scopegate/audit/query"
)

// exitFaults is the exit code of `audit verify` for a log that was tampered
// with: one that merely could not be read has the code of any failure.
const exitFaults = exitRefused

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit <command>",
		Short: "Asks questions of audit logs, checks them and shows their keys",
		Long:  "Works on the files of audit logs. None of its commands needs a running gateway.",
		Example: `  scopegate audit search --config /etc/scopegate/Caddyfile --team billing --since 24h
  scopegate audit verify /var/log/scopegate/audit.jsonl
  scopegate audit key --config /etc/scopegate/Caddyfile`,
	}
	cmd.AddCommand(auditVerifyCommand(), auditKeyCommand(), auditFindCommand())
	cmd.AddCommand(questionCommands()...)
	return cmd
}

// verify is what the command of that name was asked.
type verify struct {
	config        configFlags
	keys, anchors []string
	pruned        bool

	given []string // anchors of files
	kept  []string // and those of stores
	fleet bool     // which has those of other replicas, too
}

func auditVerifyCommand() *cobra.Command {
	v := &verify{}
	cmd := &cobra.Command{
		Use:   "verify [<log>...]",
		Short: "Finds out whether audit logs were tampered with",
		Long: `Reads logs, each with the files that were rolled from it and lie beside it, and checks
that every line follows from the one before, that the signatures are those of a
trusted key, and that the log holds what anchors outside of it say that it held. It
names the first line of each fault, and says which end of the log no anchor covers.
"-" reads one log from standard input. Several logs, such as those of all replicas,
are checked at once, each by its own key and anchors. A file that was rolled is no log
of its own: "audit-*.gz audit.jsonl" is one.

--config takes the logs, the keys and the anchors that the gateway's store holds from
a configuration; run it as the gateway's user, with its environment.

Without --key the first key in the log is trusted, which shows damage but not what
the holder of that key has done. Keep the key that "audit key" prints, and
anchors, where whoever can write the log cannot reach.

Exit codes: 0 nothing was found, 1 a log could not be read and in the others nothing
was found, 2 called wrongly, 3 a log is not what was written.`,
		Example: `  scopegate audit verify --config /etc/scopegate/Caddyfile
  scopegate audit verify /var/log/scopegate/audit.jsonl --key "$(cat audit.pub)"
  scopegate audit verify replica-*/audit.jsonl --key @keys --anchors anchors.txt
  zcat audit-*.gz | scopegate audit verify - --pruned --json`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && !cmd.Flags().Changed("config") {
				return v.run(cmd, args)
			}
			if v.config.file == "" {
				return misused("say which logs, or --config <file>")
			}
			logs, err := v.configured(cmd)
			if err != nil {
				return err
			}
			return v.run(cmd, append(logs, args...))
		},
	}
	v.config.add(cmd)
	cmd.Flags().Lookup("config").Annotations = nil // it is not required
	cmd.Flags().Lookup("config").Usage = "configuration file, whose logs, keys and stores are used; default where no log is named: $" + configVariable
	cmd.Flags().Lookup("json").Usage = "print JSON, one object a log"
	cmd.Flags().StringArrayVar(&v.keys, "key", nil, "public key to trust, or @file with one a line; may be repeated")
	cmd.Flags().StringArrayVar(&v.anchors, "anchors", nil, "file of anchors, as `anchor file` writes one; may be repeated")
	cmd.Flags().BoolVar(&v.pruned, "pruned", false, "the oldest files were deleted on purpose")
	return cmd
}

// faultsError says that logs are not what was written. Those that could not be
// read are told with it.
type faultsError struct{ logs, unread int }

// Error says how many.
func (e *faultsError) Error() string {
	text := fmt.Sprintf("%d of the logs are not what was written", e.logs)
	if e.unread > 0 {
		text += fmt.Sprintf(", and %d could not be read", e.unread)
	}
	return text
}

func (*faultsError) exitCode() int { return exitFaults }

func (v *verify) run(cmd *cobra.Command, paths []string) error {
	options, err := v.options()
	if err != nil {
		return err
	}
	known, unsound, unread := map[string]bool{}, 0, 0
	for _, log := range logfile.Logs(cmd.InOrStdin(), paths...) {
		report, err := v.one(cmd, log, options)
		if cmd.Context().Err() != nil {
			return err
		}
		if err != nil { // the others are checked nevertheless
			unread++
			if err := v.unread(cmd, log.Name, err); err != nil {
				return err
			}
			continue
		}
		if known[report.Log] {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: this is the log %s once more\n", query.Shown(log.Name), query.Shown(report.Log))
		}
		known[report.Log] = true
		if !report.Sound() {
			unsound++
		}
		if v.config.json {
			err = printJSON(cmd.OutOrStdout(), map[string]any{"file": log.Name, "sound": report.Sound(), "report": report})
		} else {
			printReport(cmd.OutOrStdout(), log.Name, report)
		}
		if err != nil {
			return err
		}
	}
	others := 0
	for _, log := range absent(options.Anchors, known) {
		if unread > 0 || v.pruned {
			continue // one that could not be read, or one that was deleted on purpose
		}
		if v.fleet && !slices.ContainsFunc(v.given, func(note string) bool { return strings.HasPrefix(note, log+"\n") }) {
			others++ // another replica's, or one that is gone
			continue
		}
		unsound++
		fmt.Fprintf(cmd.ErrOrStderr(), "replaced: there are anchors of a log %s, which is not among these\n", query.Shown(log))
	}
	if others > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "the store has anchors of other logs, %d: those of other replicas and, maybe, one that is gone. Only all logs in one run tell\n", others)
	}
	switch {
	case unsound > 0:
		return &faultsError{unsound, unread}
	case unread > 0:
		return fmt.Errorf("%d of the logs could not be read", unread)
	}
	return nil
}

// unread tells of a log that could not be read.
func (v *verify) unread(cmd *cobra.Command, log string, err error) error {
	if v.config.json {
		return printJSON(cmd.OutOrStdout(), map[string]any{"file": log, "sound": false, "error": err.Error()})
	}
	fmt.Fprintf(cmd.OutOrStdout(), "file       %s\nverdict    NOT READ: %s\n\n", query.Shown(log), query.Shown(err.Error()))
	return nil
}

// absent are the logs that anchors tell of and that were not read: whoever
// deletes a log and lets the gateway begin another leaves those.
func absent(anchors []string, known map[string]bool) (list []string) {
	for _, text := range anchors {
		if log, _, _ := strings.Cut(text, "\n"); !known[log] {
			known[log] = true
			list = append(list, log)
		}
	}
	return list
}

func (v *verify) options() (o audit.VerifyOptions, err error) {
	o.Pruned = v.pruned
	for _, key := range v.keys {
		text := key
		if name, ok := strings.CutPrefix(key, "@"); ok {
			b, err := os.ReadFile(name)
			if err != nil {
				return o, fmt.Errorf("reading --key: %w", err)
			}
			text = string(b)
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			if err := audit.CheckKey(line); err != nil {
				return o, misused("--key: %w", err)
			}
			o.Keys = append(o.Keys, line)
		}
	}
	for _, name := range v.anchors {
		b, err := os.ReadFile(name)
		if err != nil {
			return o, fmt.Errorf("reading --anchors: %w", err)
		}
		notes := audit.SplitNotes(string(b))
		if len(notes) == 0 {
			return o, fmt.Errorf("--anchors: %s holds no anchor", name)
		}
		o.Anchors = append(o.Anchors, notes...)
	}
	v.given = o.Anchors
	o.Anchors = append(slices.Clone(o.Anchors), v.kept...)
	return o, nil
}

// configured reads which logs a configuration has, their keys, and the anchors
// in its stores.
func (v *verify) configured(cmd *cobra.Command) (logs []string, err error) {
	found, err := v.config.load()
	if err != nil {
		return nil, err
	}
	for _, l := range found {
		path, err := l.auditFile()
		if err != nil {
			return nil, fmt.Errorf("gateway %s: %w", l.Name, err)
		}
		if !slices.Contains(logs, path) {
			logs = append(logs, path)
		}
		keys, err := l.Audit.keptKeys(path)
		if err != nil {
			return nil, fmt.Errorf("gateway %s: %w", l.Name, err)
		}
		v.keys = append(v.keys, keys.Public())
		if err := v.stored(cmd.Context(), l.Gateway); err != nil {
			return nil, fmt.Errorf("gateway %s: %w", l.Name, err)
		}
		if logs, err = v.commands(cmd, l.Gateway, logs); err != nil {
			return nil, fmt.Errorf("gateway %s: %w", l.Name, err)
		}
	}
	return logs, nil
}

// commands adds the log of commands that work without the gateway, where there
// is one. Whoever ran them may have kept its key elsewhere.
func (v *verify) commands(cmd *cobra.Command, g *Gateway, logs []string) ([]string, error) {
	own, err := (&direct{g}).commandLog()
	if err != nil {
		return logs, err
	}
	if _, err := os.Stat(own); err != nil || slices.Contains(logs, own) {
		return logs, nil
	}
	if _, err := os.Stat(auditKeyFile(own)); err != nil { // and never make one
		fmt.Fprintf(cmd.ErrOrStderr(), "%s is not checked: its key is not here; verify it as the user who runs commands without the gateway\n", own)
		return logs, nil
	}
	keys, err := audit.LoadKeys(auditKeyFile(own))
	if err != nil {
		return logs, err
	}
	v.keys = append(v.keys, keys.Public())
	return append(logs, own), nil
}

// stored reads the anchors that the gateway's store has.
func (v *verify) stored(ctx context.Context, g *Gateway) error {
	conf, err := g.resolveStore()
	if err != nil || conf.Driver == storeNone {
		return err
	}
	if conf.Driver == storeSQLite {
		if _, err := os.Stat(conf.Path); err != nil {
			return fmt.Errorf("store: %w", err) // and never make one
		}
	}
	db, err := conf.open(ctx, g.Name)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	list, err := db.Anchors(ctx, "")
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	for _, a := range list {
		v.kept = append(v.kept, a.Note)
	}
	v.fleet = v.fleet || conf.Driver == storePostgres
	return nil
}

// one checks one log with all of its files.
func (v *verify) one(cmd *cobra.Command, log *logfile.Log, o audit.VerifyOptions) (audit.Report, error) {
	check := audit.NewVerifier(o)
	files, err := log.Sources()
	if err != nil {
		return audit.Report{}, err
	}
	m := newMeter(cmd, files)
	err = check.Scan(cmd.Context(), files, m.progress())
	m.clear()
	return check.Finish(), err
}

// printReport prints what is known of a log. Whoever wrote that may have named it.
func printReport(w io.Writer, name string, r audit.Report) {
	fmt.Fprintf(w, "log        %s\nfile       %s\n", query.Shown(cmp.Or(r.Log, "(it does not say)")), query.Shown(name))
	fmt.Fprintf(w, "lines      %d to %d, records: %d, starts: %d (the process had died before %d), writes that broke off: %d\n",
		r.First, r.Last, r.Records, r.Segments, r.Unclosed, r.Torn)
	if r.Unchained > 0 {
		fmt.Fprintf(w, "unproven   %d lines from before there was a chain\n", r.Unchained)
	}
	if r.Partial {
		fmt.Fprintf(w, "unended    the last line is being written, or a write has broken off\n")
	}
	if r.Reopened > 0 {
		fmt.Fprintf(w, "reopened   %d times, since the file was deleted, replaced or cut under way\n", r.Reopened)
	}
	fmt.Fprintf(w, "signed     %s\n", covered(r.Signed, r.SignedAt, r.Last))
	fmt.Fprintf(w, "anchored   %s\n", covered(r.Anchored, r.AnchoredAt, r.Last))
	if !r.Trusted {
		fmt.Fprintf(w, "key        taken from the log itself; whoever has the log's key could have written all of it (--key)\n")
	}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%-10s %s:%d: %s\n", f.Fault, query.Shown(f.File), f.Line, query.Shown(f.Text))
	}
	if r.More > 0 {
		fmt.Fprintf(w, "%-10s and %d more\n", "", r.More)
	}
	verdict := "sound"
	if !r.Sound() {
		verdict = "TAMPERED WITH"
	}
	fmt.Fprintf(w, "verdict    %s\n\n", verdict)
}

// covered says up to where a log is held by a signature.
func covered(seq uint64, at time.Time, last uint64) string {
	if seq == 0 {
		return "nothing"
	}
	return fmt.Sprintf("up to line %d, of %s; %d lines behind it are not covered", seq, at.Format(time.RFC3339), last-min(seq, last))
}

func auditKeyCommand() *cobra.Command {
	var f configFlags
	var rotate bool
	cmd := &cobra.Command{
		Use:   "key --config <file>",
		Short: "Prints the public keys of a configuration's audit logs",
		Long: `Prints, for each gateway of a configuration, the public key with which signatures in
its audit log are checked, and makes the key where neither it nor the log is there yet.
Run it as the gateway's user, with its environment: both say where the key is. Keep
what it prints where whoever can write the log cannot reach.

--rotate makes a new key, which the gateway signs with from its next start on. The
log then says so, in a line that the old key has signed, so that whoever trusts the
old one can check what follows.

Exit codes: 0 done, 1 failed, 2 called wrongly.`,
		Example: `  scopegate audit key --config /etc/scopegate/Caddyfile
  scopegate audit key --config Caddyfile --gateway staging --rotate`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := f.load()
			if err != nil {
				return err
			}
			for _, l := range found {
				key, err := l.auditKey(rotate)
				if err != nil {
					return fmt.Errorf("gateway %s: %w", l.Name, err)
				}
				fmt.Fprintln(cmd.OutOrStdout(), key)
			}
			return nil
		},
	}
	f.add(cmd)
	_ = cmd.Flags().MarkHidden("json")
	cmd.Flags().BoolVar(&rotate, "rotate", false, "make a new key, which the present one vouches for")
	return cmd
}

// auditKey returns the public key of the gateway's audit log.
func (g *Gateway) auditKey(rotate bool) (string, error) {
	path, err := g.auditFile()
	if err != nil {
		return "", err
	}
	if rotate {
		if g.Audit != nil && g.Audit.Key != "" {
			return "", errors.New("its key is at " + g.Audit.Key + ": put a new line in front of it there")
		}
		file := auditKeyFile(path)
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("there is no key to follow: %w", err)
		}
		if text, err = audit.Rotated(text); err != nil {
			return "", err
		}
		if err := audit.WriteKeys(file, text); err != nil {
			return "", err
		}
	}
	keys, err := g.Audit.firstKeys(path)
	if err != nil {
		return "", err
	}
	return keys.Public(), nil
}
