package integration_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// Commands say how they are called, below the name of the binary or below that
// of the module, as in another build of Caddy.
func TestHelpNamesTheCommand(t *testing.T) {
	t.Parallel()
	for _, below := range []string{"scopegate", "scopegate scopegate"} {
		words := strings.Fields(below + " key create --help")
		out, err := exec.Command(binary, words[1:]...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v", below, err)
		}
		for _, want := range []string{
			"\n  " + below + " key create --team <team> --name <name> [flags]\n", // usage
			"\n  " + below + " key create --team billing --name ci ",             // example
			"$(" + below + " key create ",
			"2 called wrongly",
		} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: missing %q in\n%s", below, want, out)
			}
		}
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	g := start(t, preamble+site(stored("store sqlite {$DIR}/store.db")), upstreamOf(t)...)
	address := " --address unix/" + g.dir + "/admin.sock"
	for args, want := range map[string]int{
		"key":                     0,
		"key generate --team red": 0,
		"key list" + address:      0,
		"key list --address unix/" + g.dir + "/none": 1,
		"key lst":                          2,
		"scopegate kye":                    2,
		"key list --tema red":              2,
		"key show":                         2,
		"key list --older-than soon":       2,
		"key list --team biling" + address: 3,
		"key revoke 000000000000 000000000001" + address: 4,
	} {
		out, err := exec.Command(binary, strings.Fields(args)...).CombinedOutput()
		code := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if code != want {
			t.Errorf("%s: %d, want %d\n%s", args, code, want, out)
		}
		if want == 3 && !strings.Contains(string(out), `did you mean "billing"?`) {
			t.Errorf("%s: %s", args, out)
		}
	}
}

// A shell asks the command for what may come next.
func TestCompletionOffersTeams(t *testing.T) {
	t.Parallel()
	g := start(t, preamble+site(stored("store sqlite {$DIR}/store.db")), upstreamOf(t)...)
	out, err := exec.Command(binary, "__complete", "key", "list", "--address", "unix/"+g.dir+"/admin.sock", "--team", "").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "billing\n") {
		t.Errorf("%v: %s", err, out)
	}
}
