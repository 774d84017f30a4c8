package scopegate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/audit/query"
)

const (
	// secretLength is from how many characters on a text in the answer of a
	// mint may be the secret. What the field of the secret is called is not
	// documented, so that all of them are looked up by.
	secretLength = 16

	// maxFingerprints bounds what an answer puts into its record.
	maxFingerprints = 64
)

// fingerprints are what stands in the audit log for the texts of a mint's
// answer. What is no JSON has none.
func (g *Gateway) fingerprints(body []byte) []string {
	dec := json.NewDecoder(bytes.NewReader(body))
	var list []string
	for len(list) < maxFingerprints {
		token, err := dec.Token()
		if err != nil {
			break
		}
		text, ok := token.(string)
		if !ok || len(text) < secretLength {
			continue
		}
		if f := g.logFile.Keys().Fingerprint(text); !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	return list
}

func auditFindCommand() *cobra.Command {
	l, r := &logFlags{}, &recordFormat{}
	var stdin bool
	cmd := &cobra.Command{
		Use:   "find --secret-stdin --config <file> [<log>...]",
		Short: "Finds out which team minted a token that has leaked",
		Long: `Reads the secret of a token from standard input and prints the record of the mint
that made it: the team, the credential, when, and with what rights. The log does not
hold the secret but a keyed hash of it, so that this works only where the log's key
is: run it on the gateway's machine, as its user, with its environment.

` + whichLog + `

Exit codes: 0 found, 1 not all of the log could be read, 2 called wrongly, 3 found
nothing.`,
		Example: `  scopegate audit find --secret-stdin --config /etc/scopegate/Caddyfile < leaked
  pbpaste | scopegate audit find --secret-stdin --config Caddyfile --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !stdin {
				return misused("say --secret-stdin, and give the secret there: arguments are seen by every user of the machine")
			}
			r.json = l.json
			prints, err := l.fingerprints(cmd.InOrStdin())
			if err != nil {
				return err
			}
			logs, err := l.logs(cmd, args)
			if err != nil {
				return err
			}
			p := &printed{recordFormat: *r, out: cmd.OutOrStdout(), match: func(e *query.Entry) bool {
				return slices.ContainsFunc(prints, func(f []byte) bool { return bytes.Contains(e.Line.Text, f) })
			}}
			_, err = p.search(cmd, logs)
			if err == nil && p.found == 0 {
				err = &nothingError{"no mint in these logs has made a token with that secret"}
			}
			return err
		},
	}
	l.add(cmd)
	r.add(cmd)
	cmd.Flags().BoolVar(&stdin, "secret-stdin", false, "read the secret from standard input (required)")
	return cmd
}

// fingerprints are what stands for a secret in the logs of a configuration, as
// they stand there: within quotes.
func (l *logFlags) fingerprints(from io.Reader) (list [][]byte, err error) {
	text, err := io.ReadAll(io.LimitReader(from, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("reading the secret: %w", err)
	}
	secret := strings.TrimSpace(string(text))
	if len(secret) < secretLength {
		return nil, fmt.Errorf("the secret has fewer than %d characters: the log would not hold it", secretLength)
	}
	if l.file == "" {
		return nil, misused("--config is missing: it says where the key is by which secrets are looked up")
	}
	found, err := l.load()
	if err != nil {
		return nil, err
	}
	for _, g := range found {
		path, err := g.auditFile()
		if err != nil {
			return nil, err
		}
		keys, err := g.Audit.keptKeys(path)
		if err != nil {
			return nil, fmt.Errorf("gateway %s: %w", g.Name, err)
		}
		list = append(list, []byte(`"`+keys.Fingerprint(secret)+`"`))
	}
	return list, nil
}
