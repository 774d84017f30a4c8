package scopegate

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/credential"
)

// code is the exit code that Caddy's main ends with.
func code(err error) int {
	n := 1
	if err == nil {
		return 0
	}
	_, _ = fmt.Sscanf(err.Error(), "exiting with status %d", &n)
	return n
}

// A script must tell a command that it spells wrongly from one that failed: the
// first will never do anything.
func TestMisusedCommands(t *testing.T) {
	key := credential.Generate().Reveal()
	file := write(t, "Caddyfile", explained)
	for _, tt := range []struct {
		name, args, want string
	}{
		{"unknown command", "key creat --team red --name x", `did you mean "create"?`},
		{"unknown flag", "key list --tema red", `did you mean "--team"?`},
		{"unknown letter", "key list -x", "-x"},
		{"flag of another command", "key show 000000000000 --ttl 1d", "no flag"},
		{"required flag", "key create --name x", "team"},
		{"one of several flags", "key extend 000000000000", "expires"},
		{"two of one kind", "key extend 000000000000 --expires 2027-01-31 --ttl 1d", "ttl"},
		{"no id", "key show", "0"},
		{"too many", "key show a b", "2"},
		{"argument of none", "key list red", "red"},
		{"nothing given", "key revoke", "which ones?"},
		{"both given", "key revoke 000000000000 --team red", "not both"},
		{"ids and no answer", "key revoke -", "--yes"},
		{"bad date", "key create --team red --name x --expires 2027-31-01", "neither a date"},
		{"no date", "key create --team red --name x --expires=", "neither a date"},
		{"the first moment of all", "key create --team red --name x --expires 0001-01-01", "neither a date"},
		{"bad start", "key create --team red --name x --not-before soon", "neither a date"},
		{"bad duration", "key list --older-than soon", "expected a duration"},
		{"no duration", "key extend 000000000000 --ttl 0s", "above zero"},
		{"backwards", "key rotate 000000000000 --overlap -1h", "above zero"},
		{"bad state", "key list --state ended", "--state: expected active"},
		{"bad name", "key generate --team a/b", "--team: name"},
		{"bad id", "key generate --team red --id x", "--id: "},
		{"bad switch", "key list --json=maybe", "maybe"},
		{"a key as an id", "key show " + key, "not an id"},
		{"a key among ids", "key revoke " + key, "not an id"},
		{"a key as a command", "key " + key, "no command"},
		{"a key as an argument", "key list " + key, "not an id"},
		{"a key as a flag", "key list --" + key, "no flag"},
		{"a key as a date", "key create --team red --name x --expires " + key, "not an id"},
		{"a key to hash", "key hash " + key, "in a file"},
		{"explain no address", "explain --config " + file + " --team red --from x GET /", "not an address"},
		{"explain no team", "explain --config " + file + " --team rde GET /", `did you mean "red"?`},
		{"no adapter", "check --config " + file + " --adapter x", "no config adapter"},
		{"store", "store backup --config " + file, "0"},
		{"tokens of no state", "token list --state lvie", `did you mean "live"?`},
		{"tokens, nothing given", "token revoke", "which ones?"},
		{"team", "team dran red", `did you mean "drain"?`},
		{"replicas", "replicas all", "all"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := run(t, "", strings.Fields(tt.args)...)
			if code(err) != exitMisused || !strings.Contains(out, tt.want) || !strings.Contains(out, "Usage: scopegate ") {
				t.Errorf("%v, want %q\n%s", err, tt.want, out)
			}
			if strings.Contains(out, key) {
				t.Error("the key was repeated")
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	s := newShell(t, "scopes members.read")
	made, _ := s.must(t, "key", "create", "--team", "red", "--name", "ci", "--expires", "2099-01-31", "--not-before", "2020-01-31", "--json")
	if !strings.Contains(made, `"expires_at": "2099-01-31T00:00:00Z"`) || !strings.Contains(made, `"not_before": "2020-01-31T00:00:00Z"`) {
		t.Errorf("a date is not its first moment in UTC: %s", made)
	}
	for _, tt := range []struct {
		name string
		args []string
		want int
	}{
		{"done", []string{"key", "list"}, 0},
		{"refused", []string{"key", "create", "--team", "red", "--name", "ci"}, exitRefused},
		{"in part", []string{"key", "suspend", s.key.ID(), "000000000000"}, exitPartly},
		{"failed", []string{"key", "list", "--config", "none"}, 1},
	} {
		if tt.want == 1 {
			s.address = ""
		}
		if _, told, err := s.run(t, "", tt.args...); code(err) != tt.want {
			t.Errorf("%s: %v\n%s", tt.name, err, told)
		}
	}
}

// Whoever presses a key in a shell must not be held up by a gateway that does
// not answer.
func TestCompletionDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &adminClient{http: &http.Client{Transport: silent{}}}
		cmd := new(cobra.Command)
		cmd.SetContext(t.Context())
		began := time.Now()
		if teams, _ := a.completeTeams(cmd, nil, ""); len(teams) > 0 {
			t.Errorf("offered %q", teams)
		}
		if waited := time.Since(began); waited != completionPatience {
			t.Errorf("waited %s", waited)
		}
	})
}

// silent is a server that does not answer.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}
