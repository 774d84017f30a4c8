package scopegate

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func teamCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "team <command>",
		Short:   "Shows the teams of a running gateway, and drains them",
		Long:    "Shows the teams of a running gateway, and has the tokens of one deleted.\n\n" + exitCodes,
		Example: "  scopegate team list\n  scopegate team show billing\n  scopegate team drain billing",
	}
	cmd.AddCommand(teamListCommand(), teamShowCommand(), teamDrainCommand())
	return cmd
}

func teamListCommand() *cobra.Command {
	a := &adminClient{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Lists the teams of a running gateway",
		Example: "  scopegate team list\n  scopegate team list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var answer struct {
				Teams []teamStatus `json:"teams"`
			}
			if err := a.do(cmd, http.MethodGet, "/teams", nil, &answer); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), answer.Teams)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "TEAM\tSCOPES\tMAY MINT\tSTATIC CREDENTIALS")
			for _, t := range answer.Teams {
				fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", t.Name, len(t.Scopes), len(t.Mintable), len(t.Credentials))
			}
			return w.Flush()
		},
	}
	a.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

func teamShowCommand() *cobra.Command {
	a := &adminClient{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "show <team>",
		Short:             "Shows one team of a running gateway",
		Example:           "  scopegate team show billing\n  scopegate team show billing --json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTeams,
		RunE: func(cmd *cobra.Command, args []string) error {
			var t teamStatus
			if err := a.do(cmd, http.MethodGet, "/teams/"+url.PathEscape(args[0]), nil, &t); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), t)
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%-12s%s\n%-12s%s\n%-12s%s\n", "team", t.Name, "scopes", strings.Join(t.Scopes, " "), "may mint", strings.Join(t.Mintable, " "))
			for _, c := range t.Credentials {
				fmt.Fprintf(w, "%-12s%s (%s), %s\n", "credential", c.Name, strings.Join(c.IDs, ", "), c.State)
			}
			return nil
		},
	}
	a.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func teamDrainCommand() *cobra.Command {
	a := &adminClient{}
	var note string
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "drain <team>",
		Short: "Has all tokens of a team deleted at GoodAccess",
		Long: `Has all tokens of a team deleted at GoodAccess, also of a team that is gone from the
configuration. That a team is gone deletes nothing by itself: it may be a typo.`,
		Example:           "  scopegate team drain billing\n  scopegate team drain billing --yes --note 'the project has ended'",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTeams,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := confirm(cmd, yes, "delete all tokens of the team "+args[0]); err != nil {
				return err
			}
			body := map[string]any{}
			put(body, "note", note)
			return a.owe(cmd, "/teams/"+url.PathEscape(args[0])+"/drain", body, asJSON)
		},
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&note, "note", "", "why, for the audit log")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
