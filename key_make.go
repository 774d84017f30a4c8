package scopegate

import (
	"fmt"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"
)

// secretFlags say where a new key goes.
type secretFlags struct {
	out  string
	json bool
}

func (s *secretFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.out, "out", "", "write the key to this file, which must not exist, mode 0600, instead of standard output")
	cmd.Flags().BoolVar(&s.json, "json", false, "print JSON")
}

// open makes the file before the key is: a key that cannot be written down is
// lost.
func (s *secretFlags) open() (*os.File, error) {
	if s.out == "" {
		return nil, nil
	}
	file, err := os.OpenFile(s.out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	return file, nil
}

// print hands the key over: alone on standard output, so that a script can take
// it from there, with what people want to know beside it on standard error.
func (s *secretFlags) print(cmd *cobra.Command, file *os.File, c credentialView, told string) error {
	key := c.Key
	if file != nil {
		c.Key = ""
		_, err := fmt.Fprintln(file, key)
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return fmt.Errorf("writing the key, which is lost and must be rotated: %w", err)
		}
	}
	if s.json {
		return printJSON(cmd.OutOrStdout(), c)
	}
	fmt.Fprint(cmd.ErrOrStderr(), told)
	if file == nil {
		fmt.Fprintln(cmd.OutOrStdout(), key)
	}
	return nil
}

func keyCreateCommand() *cobra.Command {
	a, secret := &adminClient{}, &secretFlags{}
	body := map[string]any{}
	var team, name, note string
	var notBefore, expires dateFlag
	var ttl spanFlag
	var scopeNames, ips []string
	cmd := &cobra.Command{
		Use:   "create --team <team> --name <name>",
		Short: "Makes a stored credential in a running gateway and prints its key, once",
		Long: `Makes a stored credential in a running gateway. It works at once, on every replica.
Its key is printed this once; only a hash of it is kept. It is alone on standard
output, what else there is to say on standard error.

` + exitCodes,
		Example: `  scopegate key create --team billing --name ci --ttl 90d
  scopegate key create --team billing --name ci --scopes members.read --out ci.key
  KEY=$(scopegate key create --config Caddyfile --team billing --name nightly)`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body["team"], body["name"] = team, name
			put(body, "not_before", notBefore.String())
			put(body, "expires_at", expires.String())
			put(body, "ttl", ttl.String())
			put(body, "note", note)
			if len(scopeNames) > 0 {
				body["scopes"] = scopeNames
			}
			if len(ips) > 0 {
				body["allowed_ips"] = ips
			}
			file, err := secret.open()
			if err != nil {
				return err
			}
			var c credentialView
			if err := a.do(cmd, http.MethodPost, "/credentials", body, &c); err != nil {
				if file != nil {
					_ = file.Close()
					_ = os.Remove(file.Name())
				}
				return err
			}
			until := "without an end"
			if c.Expires != nil {
				until = "until " + c.Expires.Format("2006-01-02 15:04 MST")
			}
			return secret.print(cmd, file, c, fmt.Sprintf("credential %s, %s/%s, %s\n", c.ID, c.Team, c.Name, until))
		},
	}
	a.flags(cmd)
	secret.add(cmd)
	cmd.Flags().StringVar(&team, "team", "", "the team (required)")
	cmd.Flags().StringVar(&name, "name", "", "the credential's name within the team (required)")
	cmd.Flags().StringSliceVar(&scopeNames, "scopes", nil, "names and globs within the team's scopes; default: whatever the team holds")
	cmd.Flags().StringSliceVar(&ips, "allowed-ips", nil, "networks that callers must come from, besides the team's")
	cmd.Flags().Var(&notBefore, "not-before", "from when it works, such as 2027-01-31 (midnight, UTC) or 2027-01-31T12:00:00Z")
	cmd.Flags().Var(&expires, "expires", "when it ends, such as 2027-01-31 (midnight, UTC) or 2027-01-31T12:00:00Z")
	cmd.Flags().Var(&ttl, "ttl", "how long it lives, such as 90d")
	cmd.Flags().StringVar(&note, "note", "", "what it is for")
	_ = cmd.MarkFlagRequired("team")
	_ = cmd.MarkFlagRequired("name")
	_ = cmd.RegisterFlagCompletionFunc("team", a.completeTeams)
	return cmd
}

func keyRotateCommand() *cobra.Command {
	a, secret := &adminClient{}, &secretFlags{}
	overlap := spanFlag{orNone: true}
	var untilUsed, wait bool
	cmd := &cobra.Command{
		Use:   "rotate <id>",
		Short: "Gives a stored credential a new key, which is printed once",
		Long: `Gives a stored credential a new key. Its id, its limits and its history stay, and
the old key goes on for the overlap, so that nobody is cut off while the new one is
handed out. It is printed once every replica knows it.

` + exitCodes,
		Example: `  scopegate key rotate 4fQ9aZ0bTx1k
  scopegate key rotate 4fQ9aZ0bTx1k --overlap 1h --out ci.key
  scopegate key rotate 4fQ9aZ0bTx1k --overlap 0s     # the old key leaked`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{}
			if untilUsed {
				body["until_used"] = true
			}
			put(body, "overlap", overlap.String())
			file, err := secret.open()
			if err != nil {
				return err
			}
			var c credentialView
			if err := a.do(cmd, http.MethodPost, "/credentials/"+url.PathEscape(args[0])+"/rotate", body, &c); err != nil {
				if file != nil {
					_ = file.Close()
					_ = os.Remove(file.Name())
				}
				return err
			}
			told := fmt.Sprintf("credential %s, %s/%s, has key %d\n", c.ID, c.Team, c.Name, c.Generations[0].Number)
			switch {
			case len(c.Generations) < 2:
			case overlap.given && overlap.Duration == 0:
				told += "no other key of it works any more\n"
			case c.Generations[1].Ends != nil:
				told += fmt.Sprintf("key %d works until %s\n", c.Generations[1].Number, c.Generations[1].Ends.Format("2006-01-02 15:04:05 MST"))
			}
			if wait {
				if err := a.wait(cmd, c.Revision); err != nil {
					fmt.Fprintln(cmd.ErrOrStderr(), "not every replica is known to have the new key:", err)
				}
			}
			return secret.print(cmd, file, c, told)
		},
	}
	a.flags(cmd)
	secret.add(cmd)
	cmd.Flags().Var(&overlap, "overlap", "how long the old key goes on; 0s ends it at once (default 24h)")
	cmd.Flags().BoolVar(&untilUsed, "until-used", false, "end the old key once the new one was used; not for callers of several instances")
	cmd.Flags().BoolVar(&wait, "wait", true, "print the key only when every replica knows it")
	return cmd
}
