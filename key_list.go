package scopegate

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/credential"
)

func keyListCommand() *cobra.Command {
	a, f := &adminClient{}, &keyFilter{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Lists the stored credentials of a running gateway",
		Long:  "Lists the stored credentials of a running gateway, those of a filter or all.\n\n" + exitCodes,
		Example: `  scopegate key list
  scopegate key list --team billing --state active --expires-within 7d
  scopegate key list --unused-since 90d --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.list(cmd, f)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tTEAM\tNAME\tSTATE\tENDS (UTC)\tLAST USED (UTC)")
			for _, c := range list {
				used := "never"
				if c.LastUse != nil {
					used = day(&c.LastUse.At)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", c.ID, c.Team, c.Name, c.State, day(c.Expires), used)
			}
			return w.Flush()
		},
	}
	a.flags(cmd)
	f.add(cmd, a)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

func day(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04")
}

// list reads every page.
func (a *adminClient) list(cmd *cobra.Command, f *keyFilter) ([]credentialView, error) {
	filter, err := f.body(time.Now())
	if err != nil {
		return nil, err
	}
	query := url.Values{"limit": {fmt.Sprint(maxListed)}}
	for field, value := range filter {
		switch value := value.(type) {
		case string:
			query.Set(field, value)
		case []string:
			query.Set(field, strings.Join(value, ","))
		}
	}
	list := []credentialView{}
	for {
		var page struct {
			Credentials []credentialView `json:"credentials"`
			Next        string           `json:"next"`
		}
		if err := a.do(cmd, http.MethodGet, "/credentials?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		list = append(list, page.Credentials...)
		if page.Next == "" {
			return list, nil
		}
		query.Set("after", page.Next)
	}
}

func keyShowCommand() *cobra.Command {
	a := &adminClient{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show <id>",
		Short: "Shows one credential of a running gateway",
		Long:  "Shows one credential of a running gateway: its rights, its keys and its last use.\n\n" + exitCodes,
		Example: `  scopegate key show 4fQ9aZ0bTx1k
  scopegate key show 4fQ9aZ0bTx1k --json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			var c credentialView
			if err := a.do(cmd, http.MethodGet, "/credentials/"+url.PathEscape(args[0]), nil, &c); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), c)
			}
			c.print(cmd)
			return nil
		},
	}
	a.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// instant is day where no head says in which zone.
func instant(t *time.Time) string {
	if t == nil {
		return day(t)
	}
	return day(t) + " UTC"
}

// changed is the line about a change: what the credential has now, of what the
// change was about.
func (c *credentialView) changed(kind string) string {
	text := fmt.Sprintf("%s %s/%s is %s", c.ID, c.Team, c.Name, c.State)
	if kind == credential.KindNarrow {
		text += ", with " + strings.Join(c.Scopes, " ")
		if len(c.AllowedIPs) > 0 {
			text += ", from " + strings.Join(c.AllowedIPs, " ")
		}
	}
	if (kind == credential.KindNarrow || kind == credential.KindExtend) && c.Expires != nil {
		text += ", until " + instant(c.Expires)
	}
	if c.Owed != nil {
		text += fmt.Sprintf("; %s to be deleted at GoodAccess", counted(*c.Owed, "token"))
	}
	return text
}

func (c *credentialView) print(cmd *cobra.Command) {
	w := cmd.OutOrStdout()
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-12s%s\n", name, value)
		}
	}
	line("id", c.ID)
	line("name", c.Team+"/"+c.Name)
	line("state", c.State)
	line("note", c.Note)
	line("scopes", strings.Join(c.Scopes, " "))
	line("networks", strings.Join(c.AllowedIPs, " "))
	line("from", instant(c.NotBefore))
	line("ends", instant(c.Expires))
	line("made", instant(c.Created)+" by "+c.CreatedBy)
	for _, g := range c.Generations {
		text := fmt.Sprintf("%d, made %s", g.Number, instant(&g.Created))
		if g.Ends != nil {
			text += ", ends " + instant(g.Ends)
		}
		line("key", text)
	}
	if c.LastUse != nil {
		line("last used", fmt.Sprintf("%s from %s for %s", instant(&c.LastUse.At), c.LastUse.Address, c.LastUse.Operation))
	}
}

func replicasCommand() *cobra.Command {
	a := &adminClient{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "replicas",
		Short: "Lists the processes that serve a gateway",
		Long:  "Lists the processes that serve a gateway, and up to which change each has read.\n\n" + exitCodes,
		Example: `  scopegate replicas --config Caddyfile
  scopegate replicas --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var answer struct {
				Replicas []replicaView `json:"replicas"`
				Now      time.Time     `json:"now"`
			}
			if err := a.do(cmd, http.MethodGet, "/replicas", nil, &answer); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), answer)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tHOST\tVERSION\tSTARTED (UTC)\tREVISION\tHEARD")
			for _, r := range answer.Replicas {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s ago\n", r.ID, r.Host, r.Version, day(&r.Started), r.Revision, answer.Now.Sub(r.Beat).Round(time.Second))
			}
			return w.Flush()
		},
	}
	a.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
