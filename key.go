package scopegate

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/credential"
)

func keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key <command>",
		Short: "Makes, lists and changes credentials and their keys",
		Long: `create, list, show, rotate, suspend, resume, extend, narrow and revoke look after the
stored credentials of a running gateway. generate and hash make what stands in a
configuration, and need none.

` + exitCodes,
		Example: `  scopegate key create --team billing --name ci
  scopegate key revoke 4fQ9aZ0bTx1k --wait
  scopegate key generate --team billing`,
	}
	cmd.AddCommand(keyGenerateCommand(), keyHashCommand(), keyCreateCommand(), keyRotateCommand(), keyListCommand(), keyShowCommand())
	for _, k := range keyChanges {
		cmd.AddCommand(k.command())
	}
	return cmd
}

func keyGenerateCommand() *cobra.Command {
	var team, name, id string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "generate --team <team>",
		Short: "Makes a key and prints it, once, with the Caddyfile lines for it",
		Long: `Makes a key from 256 random bits and prints it once. It is stored nowhere: what
goes into the configuration is its hash, from which it cannot be found.

--id keeps the id of a credential while its key is exchanged: put the new hash
line beside the old one, give out the new key, then remove the old line.`,
		Example: `  scopegate key generate --team billing
  scopegate key generate --team billing --name ci --json
  scopegate key generate --team billing --name ci --id 4fQ9aZ0bTx1k`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !validName(team) {
				return misused("--team: %w", errName(team))
			}
			if !validName(name) {
				return misused("--name: %w", errName(name))
			}
			key := credential.Generate()
			if id != "" {
				var err error
				if key, err = credential.GenerateWithID(id); err != nil {
					return misused("--id: %w", err)
				}
			}
			lines := fmt.Sprintf("team %s {\n\tcredential %s {\n\t\thash %s:%s\n\t}\n}", team, name, key.ID(), key.Hash())
			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, map[string]string{
					"key": key.Reveal(), "id": key.ID(), "hash": key.Hash().String(),
					"team": team, "name": name, "caddyfile": lines,
				})
			}
			fmt.Fprintf(out, "key, shown this once:\n\n    %s\n\nfor the scopegate block of your Caddyfile:\n\n%s\n",
				key.Reveal(), indent(lines))
			return nil
		},
	}
	cmd.Flags().StringVar(&team, "team", "", "the team that the key is for (required)")
	cmd.Flags().StringVar(&name, "name", "default", "the credential's name within the team")
	cmd.Flags().StringVar(&id, "id", "", "keep this id instead of making one")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: key, id, hash, team, name, caddyfile")
	_ = cmd.MarkFlagRequired("team")
	return cmd
}

func indent(lines string) string {
	return "    " + strings.ReplaceAll(lines, "\n", "\n    ")
}

// maxKeyFile is far more than a key and its newline.
const maxKeyFile = 4 << 10

func keyHashCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "hash [<file>]",
		Short: "Prints the hash line of a key read from a file or standard input",
		Long: `Reads one key from a file or from standard input, never from the command line,
where other users of the machine and the shell's history would see it, and
prints the line that goes into a credential block.`,
		Example: `  scopegate key hash < key.txt
  scopegate key hash key.txt --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if len(args) == 1 && args[0] != "-" {
				if strings.HasPrefix(args[0], credential.Prefix) {
					return misused("a key on the command line is seen by other users and kept in the shell's history: replace it, and give keys in a file or on standard input")
				}
				file, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer file.Close()
				in = file
			}
			text, err := io.ReadAll(io.LimitReader(in, maxKeyFile))
			if err != nil {
				return fmt.Errorf("reading the key: %w", err)
			}
			key, err := credential.Parse(strings.TrimSpace(string(text)))
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]string{"id": key.ID(), "hash": key.Hash().String()})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "hash %s:%s\n", key.ID(), key.Hash())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: id, hash")
	return cmd
}
