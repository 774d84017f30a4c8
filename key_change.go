package scopegate

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/credential"
)

// keyChange is one of the commands that change credentials: those whose ids are
// given or, where the change is made for many, those that a filter chooses.
type keyChange struct {
	kind, short, example string
	also                 string // what else it does
	bulk, waits          bool
	flags                func(cmd *cobra.Command, body map[string]any) (read func())
}

var keyChanges = []keyChange{
	{
		kind: credential.KindSuspend, short: "Stops stored credentials until they are resumed", bulk: true, waits: true,
		flags: func(cmd *cobra.Command, body map[string]any) func() {
			cascade := cmd.Flags().Bool("cascade", false, "also have the tokens deleted that they made; with ids only")
			return func() {
				if *cascade {
					body["cascade"] = true
				}
			}
		},
		example: "  scopegate key suspend 4fQ9aZ0bTx1k --note 'under investigation'\n  scopegate key suspend 4fQ9aZ0bTx1k --cascade\n  scopegate key suspend --team billing --unused-since 90d",
	},
	{
		kind: credential.KindResume, short: "Puts suspended credentials in force again", bulk: true,
		example: "  scopegate key resume 4fQ9aZ0bTx1k\n  scopegate key resume --team billing --yes",
	},
	{
		kind: credential.KindExtend, short: "Moves the end of stored credentials further away", bulk: true,
		example: "  scopegate key extend 4fQ9aZ0bTx1k --ttl 90d\n  scopegate key extend --team billing --expires-within 7d --ttl 30d",
		flags: func(cmd *cobra.Command, body map[string]any) func() {
			var expires dateFlag
			var ttl spanFlag
			cmd.Flags().Var(&expires, "expires", "the new end, such as 2027-01-31 (midnight, UTC) or 2027-01-31T12:00:00Z")
			cmd.Flags().Var(&ttl, "ttl", "how long it lives from now on, such as 90d")
			cmd.MarkFlagsOneRequired("expires", "ttl")
			cmd.MarkFlagsMutuallyExclusive("expires", "ttl")
			return func() { put(body, "expires_at", expires.String()); put(body, "ttl", ttl.String()) }
		},
	},
	{
		kind: credential.KindNarrow, short: "Takes scopes, networks or time from stored credentials", waits: true,
		example: "  scopegate key narrow 4fQ9aZ0bTx1k --scopes members.read",
		flags: func(cmd *cobra.Command, body map[string]any) func() {
			scopeNames := cmd.Flags().StringSlice("scopes", nil, "names and globs, within what it has now")
			ips := cmd.Flags().StringSlice("allowed-ips", nil, "networks, within what it has now")
			var expires dateFlag
			cmd.Flags().Var(&expires, "expires", "an earlier end, such as 2027-01-31 (midnight, UTC) or 2027-01-31T12:00:00Z")
			cmd.MarkFlagsOneRequired("scopes", "allowed-ips", "expires")
			return func() {
				if len(*scopeNames) > 0 {
					body["scopes"] = *scopeNames
				}
				if len(*ips) > 0 {
					body["allowed_ips"] = *ips
				}
				put(body, "expires_at", expires.String())
			}
		},
	},
	{
		kind: credential.KindRevoke, short: "Ends credentials for good", bulk: true, waits: true,
		also: `
The tokens that they made at GoodAccess are deleted there: "token list --credential <id>"
shows which. To exchange a key, and keep what was made with it, use "key rotate".
`,
		example: "  scopegate key revoke 4fQ9aZ0bTx1k --wait\n  scopegate key revoke --team billing --older-than 365d\n  scopegate key list --team billing --json | jq -r '.[].id' | scopegate key revoke - --yes",
	},
}

func put(body map[string]any, field, value string) {
	if value != "" {
		body[field] = value
	}
}

func (k keyChange) command() *cobra.Command {
	a, f := &adminClient{}, &keyFilter{}
	body := map[string]any{}
	var note string
	var yes, wait, asJSON bool
	var read func()
	use := k.kind + " <id>..."
	if k.bulk {
		use = k.kind + " (<id>... | - | --team <team> ...)"
	}
	cmd := &cobra.Command{
		Use: use, Short: k.short, Example: k.example, ValidArgsFunction: a.completeIDs,
		Long: k.short + `, by their ids; "-" reads ids from standard input, one on a line.
Each change is recorded in the audit log before it is made. To run a command again
is safe.
` + k.also + `
` + exitCodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if read != nil {
				read()
			}
			put(body, "note", note)
			d := &changer{adminClient: a, cmd: cmd, kind: k.kind, body: body}
			var err error
			switch {
			case len(args) > 0 && f.given():
				return misused("give ids or a filter, not both")
			case len(args) == 0 && !f.given():
				return misused("which ones? give ids, such as: %s 4fQ9aZ0bTx1k", cmd.CommandPath())
			case f.given():
				err = d.byFilter(f, yes)
			case len(args) == 1 && args[0] == "-" && !yes:
				return misused("standard input is taken by the ids and cannot be asked: give --yes")
			default:
				err = d.byID(args)
			}
			if err == nil && wait && d.revision > 0 {
				if waitErr := a.wait(cmd, d.revision); waitErr != nil {
					err = &partlyError{fmt.Sprintf("changed: %d; whether every replica has seen it is not known: %v", len(d.done), waitErr)}
				}
			}
			if asJSON {
				if jsonErr := printJSON(cmd.OutOrStdout(), map[string]any{"done": append([]string{}, d.done...), "failed": append([]bulkFailure{}, d.failed...)}); err == nil {
					err = jsonErr
				}
			}
			return err
		},
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&note, "note", "", "why, for the audit log")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: done, failed")
	if k.waits {
		cmd.Flags().BoolVar(&wait, "wait", false, "wait until every replica has seen it, and say which")
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before changing what a filter or standard input chooses")
	if k.bulk {
		f.add(cmd, a)
	}
	if k.flags != nil {
		read = k.flags(cmd, body)
	}
	return cmd
}

// changer makes one change of many credentials.
type changer struct {
	*adminClient
	cmd  *cobra.Command
	kind string
	body map[string]any

	done     []string
	failed   []bulkFailure
	revision int64 // the last one
}

func (d *changer) byID(args []string) error {
	ids := args
	if len(args) == 1 && args[0] == "-" {
		ids = nil
		lines := bufio.NewScanner(d.cmd.InOrStdin())
		for lines.Scan() {
			if id := strings.TrimSpace(lines.Text()); id != "" {
				ids = append(ids, id)
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("reading ids: %w", err)
		}
	}
	for _, id := range ids {
		var c credentialView
		err := d.do(d.cmd, http.MethodPost, "/credentials/"+url.PathEscape(id)+"/"+d.kind, d.body, &c)
		var p *problemError
		switch {
		case errors.As(err, &p) && len(ids) > 1:
			d.fail(bulkFailure{id, p})
			continue
		case err != nil && len(d.done) > 0:
			return fmt.Errorf("%w (changed before: %d; to run the same again is safe)", err, len(d.done))
		case err != nil:
			return err
		}
		d.done, d.revision = append(d.done, id), c.Revision
		fmt.Fprintln(d.cmd.ErrOrStderr(), c.changed(d.kind))
	}
	return d.outcome()
}

func (d *changer) fail(f bulkFailure) {
	d.failed = append(d.failed, f)
	fmt.Fprintf(d.cmd.ErrOrStderr(), "%s: %s\n", f.ID, f.Problem.Detail)
}

func (d *changer) outcome() error {
	if len(d.failed) > 0 {
		return &partlyError{fmt.Sprintf("changed: %d, failed: %d; to run the same again is safe", len(d.done), len(d.failed))}
	}
	return nil
}

// byFilter changes what a filter chooses, a page after the other: first all are
// counted, and somebody asked.
func (d *changer) byFilter(f *keyFilter, yes bool) error {
	filter, err := f.body(time.Now())
	if err != nil {
		return err
	}
	d.body["change"], d.body["filter"] = d.kind, filter
	matched := 0
	count := func(p bulkPage) { matched += p.Matched }
	if err := d.pages(true, count); err != nil {
		return err
	}
	out := d.cmd.ErrOrStderr()
	if matched == 0 {
		fmt.Fprintln(out, "no credential is chosen")
		return nil
	}
	if err := confirm(d.cmd, yes, d.kind+" "+counted(matched, "credential")); err != nil {
		return err
	}
	err = d.pages(false, func(p bulkPage) {
		d.done = append(d.done, p.Done...)
		for _, one := range p.Failed {
			d.fail(one)
		}
		fmt.Fprintf(out, "%d of %d\n", len(d.done)+len(d.failed), matched)
	})
	if err != nil {
		return fmt.Errorf("%w (changed before: %d; to run the same again is safe)", err, len(d.done))
	}
	if len(d.done) > 0 {
		var last credentialView
		if err := d.do(d.cmd, http.MethodGet, "/credentials/"+url.PathEscape(d.done[len(d.done)-1]), nil, &last); err == nil {
			d.revision = last.Revision
		}
	}
	return d.outcome()
}

type bulkPage struct {
	Matched int           `json:"matched"`
	Done    []string      `json:"done"`
	Failed  []bulkFailure `json:"failed"`
	Next    string        `json:"next"`
}

func (d *changer) pages(dry bool, each func(bulkPage)) error {
	d.body["dry_run"] = dry
	for after := ""; ; {
		d.body["after"] = after
		var p bulkPage
		if err := d.do(d.cmd, http.MethodPost, "/credentials:bulk", d.body, &p); err != nil {
			return err
		}
		each(p)
		for _, f := range p.Failed {
			if f.Problem.Status >= http.StatusInternalServerError {
				return f.Problem
			}
		}
		if after = p.Next; after == "" {
			return nil
		}
	}
}

// keyFilter chooses credentials.
type keyFilter struct {
	team                                string
	states                              []string
	olderThan, unusedSince, expiresSoon spanFlag
}

func (f *keyFilter) add(cmd *cobra.Command, a *adminClient) {
	cmd.Flags().StringVar(&f.team, "team", "", "those of this team")
	cmd.Flags().StringSliceVar(&f.states, "state", nil, "those in one of these states: active, suspended, revoked")
	cmd.Flags().Var(&f.olderThan, "older-than", "those made before, such as 90d")
	cmd.Flags().Var(&f.unusedSince, "unused-since", "those not used for so long, such as 90d")
	cmd.Flags().Var(&f.expiresSoon, "expires-within", "those that end within, such as 7d")
	_ = cmd.RegisterFlagCompletionFunc("team", a.completeTeams)
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions([]string{"active", "suspended", "revoked"}, cobra.ShellCompDirectiveNoFileComp))
}

func (f *keyFilter) given() bool {
	return f.team != "" || len(f.states) > 0 || f.olderThan.given || f.unusedSince.given || f.expiresSoon.given
}

// body is the filter as the API takes it.
func (f *keyFilter) body(now time.Time) (map[string]any, error) {
	filter := map[string]any{}
	put(filter, "team", f.team)
	if len(f.states) > 0 {
		if _, err := statesOf(f.states); err != nil {
			return nil, misused("--%w", err)
		}
		filter["state"] = f.states
	}
	at := func(field string, given bool, d time.Duration) {
		if given {
			filter[field] = now.Add(d).UTC().Format(time.RFC3339)
		}
	}
	at("created_before", f.olderThan.given, -f.olderThan.Duration)
	at("used_before", f.unusedSince.given, -f.unusedSince.Duration)
	at("expires_before", f.expiresSoon.given, f.expiresSoon.Duration)
	return filter, nil
}
