package scopegate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/ledger"
)

func tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token <command>",
		Short: "Looks after the upstream tokens that the gateway made",
		Long: `Looks after the upstream tokens that the gateway made: whose they are, which are
owed their end, and which GoodAccess has and the gateway does not know.

` + exitCodes,
		Example: "  scopegate token list --team billing\n  scopegate token debt\n  scopegate token reconcile --dry-run",
	}
	cmd.AddCommand(tokenListCommand(), tokenShowCommand(), tokenRevokeCommand(), tokenAdoptCommand(), tokenReconcileCommand(), tokenDebtCommand())
	return cmd
}

// tokenFilter chooses tokens.
type tokenFilter struct {
	team, credential string
	states           []string
}

func (f *tokenFilter) add(cmd *cobra.Command, a *adminClient) {
	cmd.Flags().StringVar(&f.team, "team", "", "those of this team")
	cmd.Flags().StringVar(&f.credential, "credential", "", "those that this credential made")
	cmd.Flags().StringSliceVar(&f.states, "state", nil, "those in one of these states: "+strings.Join(tokenStates, ", "))
	_ = cmd.RegisterFlagCompletionFunc("team", a.completeTeams)
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(tokenStates, cobra.ShellCompDirectiveNoFileComp))
}

func (f *tokenFilter) query() (url.Values, error) {
	for _, state := range f.states {
		if !slices.Contains(tokenStates, state) {
			return nil, misused("--state %q: expected one of %s%s", state, strings.Join(tokenStates, ", "), didYouMean(state, tokenStates))
		}
	}
	query := url.Values{"limit": {fmt.Sprint(maxListed)}}
	for field, value := range map[string]string{"team": f.team, "credential": f.credential, "state": strings.Join(f.states, ",")} {
		if value != "" {
			query.Set(field, value)
		}
	}
	return query, nil
}

// eachToken reads every page below a path.
func (a *adminClient) eachToken(cmd *cobra.Command, path string, query url.Values, each func(tokenView)) error {
	for {
		var page tokenPage
		if err := a.do(cmd, http.MethodGet, path+"?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		for _, t := range page.Tokens {
			each(t)
		}
		if page.Next == "" {
			return nil
		}
		query.Set("after", page.Next)
	}
}

func tokenListCommand() *cobra.Command {
	a, f := &adminClient{}, &tokenFilter{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Lists the tokens in the ledger",
		Example: `  scopegate token list
  scopegate token list --team billing --state live
  scopegate token list --credential 4fQ9aZ0bTx1k --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := f.query()
			if err != nil {
				return err
			}
			list := []tokenView{}
			if err := a.eachToken(cmd, "/tokens", query, func(t tokenView) { list = append(list, t) }); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tTEAM\tCREDENTIAL\tNAME\tSTATE\tEXPIRES")
			for _, t := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", orDash(t.ID), t.Team, orDash(t.Credential), t.Name, t.State, orDash(t.ExpiresAt))
			}
			return w.Flush()
		},
	}
	a.flags(cmd)
	f.add(cmd, a)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func tokenShowCommand() *cobra.Command {
	a := &adminClient{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show <id or nonce>",
		Short: "Shows one token of the ledger",
		Example: `  scopegate token show 6f2c3c1e-4b53-4d0e-9d2e-0f5b6a7c8d9e
  scopegate token show 6f2c3c1e-4b53-4d0e-9d2e-0f5b6a7c8d9e --json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTokens,
		RunE: func(cmd *cobra.Command, args []string) error {
			var t tokenView
			if err := a.do(cmd, http.MethodGet, "/tokens/"+url.PathEscape(args[0]), nil, &t); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), t)
			}
			t.print(cmd.OutOrStdout())
			return nil
		},
	}
	a.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (t *tokenView) print(w io.Writer) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-12s%s\n", name, value)
		}
	}
	line("id", t.ID)
	line("nonce", t.Nonce)
	line("name", t.Team+"/"+t.Name)
	line("credential", t.Credential)
	line("state", t.State)
	line("because", t.Cause)
	line("scopes", strings.Join(t.Scopes, " "))
	line("networks", strings.Join(t.AllowedIPs, " "))
	line("expires", t.ExpiresAt)
	made := day(&t.Created)
	if t.Adopted {
		made += ", adopted by " + t.AdoptedBy
	}
	line("made", made)
	if t.Next != nil {
		line("next try", day(t.Next))
	}
	if t.Attempts > 0 {
		line("failed", fmt.Sprintf("%d times; the last: %s", t.Attempts, t.Failure))
	}
}

// completeTokens offers the ids of live tokens with their names.
func (a *adminClient) completeTokens(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var page tokenPage
	a.suggest(cmd, "/tokens?state="+ledger.Live, &page)
	var ids []string
	for _, t := range page.Tokens {
		ids = append(ids, t.ID+"\t"+t.Team+"/"+t.Name)
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

func tokenRevokeCommand() *cobra.Command {
	a := &adminClient{}
	var credential, note string
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "revoke (<id>... | --credential <id>)",
		Short: "Has tokens deleted at GoodAccess",
		Long: `Has tokens deleted at GoodAccess, by their ids, or all that a credential made.
From then on their deletion is owed: it is tried at once, and until it is proved
(token debt). To run the command again is safe.

` + exitCodes,
		Example: `  scopegate token revoke 6f2c3c1e-4b53-4d0e-9d2e-0f5b6a7c8d9e
  scopegate token revoke --credential 4fQ9aZ0bTx1k --yes --note 'it leaked'`,
		ValidArgsFunction: a.completeTokens,
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{}
			put(body, "note", note)
			switch {
			case (len(args) > 0) == (credential != ""):
				return misused("which ones? give ids of tokens, or --credential")
			case credential != "":
				if err := confirm(cmd, yes, "delete all tokens that "+credential+" made"); err != nil {
					return err
				}
				body["credential"] = credential
				return a.owe(cmd, "/tokens:revoke", body, asJSON)
			}
			return a.revokeTokens(cmd, args, body, asJSON)
		},
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&credential, "credential", "", "all that this credential made")
	cmd.Flags().StringVar(&note, "note", "", "why, for the audit log")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before deleting many")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *adminClient) revokeTokens(cmd *cobra.Command, ids []string, body map[string]any, asJSON bool) error {
	done, failed := []tokenView{}, 0
	for _, id := range ids {
		var t tokenView
		err := a.do(cmd, http.MethodPost, "/tokens/"+url.PathEscape(id)+"/revoke", body, &t)
		var p *problemError
		switch {
		case errors.As(err, &p) && len(ids) > 1:
			failed++
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", id, p.Detail)
			continue
		case err != nil:
			return err
		}
		done = append(done, t)
		fmt.Fprintf(cmd.ErrOrStderr(), "%s %s/%s is %s\n", id, t.Team, t.Name, t.State)
	}
	if asJSON {
		if err := printJSON(cmd.OutOrStdout(), done); err != nil {
			return err
		}
	}
	if failed > 0 {
		return &partlyError{fmt.Sprintf("owed: %d, failed: %d; to run the same again is safe", len(done), failed)}
	}
	return nil
}

// owe asks for the end of many tokens.
func (a *adminClient) owe(cmd *cobra.Command, path string, body map[string]any, asJSON bool) error {
	var answer struct {
		Owed int `json:"owed"`
	}
	if err := a.do(cmd, http.MethodPost, path, body, &answer); err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), answer)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "owed: the deletion of %s; `%s token debt` tells what is left\n", counted(answer.Owed, "token"), cmd.Parent().Parent().CommandPath())
	return nil
}

// confirm asks before something that cannot be taken back.
func confirm(cmd *cobra.Command, yes bool, what string) error {
	if yes {
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s? Type yes: ", what)
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if strings.TrimSpace(answer) != "yes" {
		return errors.New("nothing was changed: answer yes, or give --yes")
	}
	return nil
}

func tokenAdoptCommand() *cobra.Command {
	a := &adminClient{}
	var team, note string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "adopt <id> --team <team>",
		Short: "Makes a token that was made past the gateway a team's",
		Long: `Makes a token that was made past the gateway a team's, which sees and deletes it
from then on. The master is refused, and so is any token that the team could not
have made itself: wider than its mint grant, or with a token.* scope.`,
		Example:           "  scopegate token adopt 6f2c3c1e-4b53-4d0e-9d2e-0f5b6a7c8d9e --team billing",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"id": args[0], "team": team}
			put(body, "note", note)
			var t tokenView
			if err := a.do(cmd, http.MethodPost, "/tokens:adopt", body, &t); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), t)
			}
			t.print(cmd.OutOrStdout())
			return nil
		},
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&team, "team", "", "whose it is to be (required)")
	cmd.Flags().StringVar(&note, "note", "", "why, for the audit log")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	_ = cmd.MarkFlagRequired("team")
	_ = cmd.RegisterFlagCompletionFunc("team", a.completeTeams)
	return cmd
}

func tokenReconcileCommand() *cobra.Command {
	a := &adminClient{}
	var dry, afterRestore, asJSON bool
	var most int
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Holds the ledger against GoodAccess's list of tokens",
		Long: `Holds the ledger against GoodAccess's list of tokens: deletes those whose reply was
lost, notes those that vanished, and tells of all else that is not as it should be.
docs/tokens.md says what each finding means.

Exit codes: 0 done, 1 failed, 2 called wrongly, 3 refused by the gateway, 4 stopped to ask.`,
		Example: `  scopegate token reconcile --dry-run
  scopegate token reconcile --max-deletions 100`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body := map[string]any{"dry_run": dry, "max_deletions": most, "after_restore": afterRestore}
			fmt.Fprintln(cmd.ErrOrStderr(), "asking GoodAccess for its list of tokens...")
			var v reconciliationView
			if err := a.do(cmd, http.MethodPost, "/tokens:reconcile", body, &v); err != nil {
				return err
			}
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), v); err != nil {
					return err
				}
			} else {
				v.print(cmd.OutOrStdout())
			}
			if v.Stopped != "" && !dry {
				return &partlyError{"nothing was changed: " + v.Stopped + " (--max-deletions, --after-restore)"}
			}
			return nil
		},
	}
	a.flags(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "find, and change nothing")
	cmd.Flags().IntVar(&most, "max-deletions", ledger.DefaultMaxDeletions, "stop where more lost tokens would be deleted")
	cmd.Flags().BoolVar(&afterRestore, "after-restore", false, "change something although the store came from a backup; look at a dry run first")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (v *reconciliationView) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FINDING\tTOKENS")
	for _, kind := range ledger.Findings {
		fmt.Fprintf(w, "%s\t%d\n", kind, v.Counts[kind])
	}
	if len(v.Findings) > 0 {
		fmt.Fprintln(w, "\nFINDING\tID\tTEAM\tNAME\tDETAIL")
	}
	for _, f := range v.Findings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Finding, f.ID, orDash(f.Team), f.Name, f.Detail)
	}
	_ = w.Flush() // standard output
}

func tokenDebtCommand() *cobra.Command {
	a, f := &adminClient{}, &tokenFilter{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "debt",
		Short: "Lists what is owed: tokens to be deleted, lost ones, and teams that await a drain",
		Example: `  scopegate token debt
  scopegate token debt --team billing --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var answer struct {
				Tokens   []tokenView `json:"tokens"`
				Awaiting []drainable `json:"awaiting_drain"`
			}
			answer.Tokens = []tokenView{}
			query, err := f.query()
			if err != nil {
				return err
			}
			if err := a.do(cmd, http.MethodGet, "/debt?limit=1", nil, &answer); err != nil {
				return err
			}
			answer.Tokens = answer.Tokens[:0]
			if err := a.eachToken(cmd, "/debt", query, func(t tokenView) { answer.Tokens = append(answer.Tokens, t) }); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), answer)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tTEAM\tNAME\tSTATE\tSINCE (UTC)\tTRIES\tWHY\tLAST FAILURE")
			for _, t := range answer.Tokens {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", orDash(t.ID), t.Team, t.Name, t.State, day(&t.Changed), t.Attempts, t.Cause, orDash(t.Failure))
			}
			for _, d := range answer.Awaiting {
				fmt.Fprintf(w, "-\t%s\t%s\tawaits a drain\t-\t-\tthe team is gone from the configuration\t-\n", d.Team, counted(d.Live, "live token"))
			}
			return w.Flush()
		},
	}
	a.flags(cmd)
	f.add(cmd, a)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: tokens, awaiting_drain")
	return cmd
}
