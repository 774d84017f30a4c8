package integration_test

import (
	"errors"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
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
			"\nDocumentation: https://github.com/scopegate/",
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
		"demo --onc":                       2,
		"simulate api":                     2,
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

// Operators validate beside the gateway that runs, and as root before the first
// start. The log of the one cannot be opened twice, and what root makes the
// gateway's user cannot write.
func TestValidateOpensNothing(t *testing.T) {
	t.Parallel()
	g := start(t, preamble+site(stored("store sqlite {$DIR}/store.db")), upstreamOf(t)...)
	validate := func(env ...string) (string, error) {
		cmd := exec.Command(binary, "validate", "--config", filepath.Join(g.dir, "Caddyfile"), "--adapter", "caddyfile")
		cmd.Env = append(slices.Clone(g.env), env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	before := g.readFile(t, "audit.jsonl")
	if out, err := validate(); err != nil || !strings.Contains(out, "Valid configuration") {
		t.Errorf("beside a gateway that runs: %v\n%s", err, out)
	}
	if after := g.readFile(t, "audit.jsonl"); strings.Count(after, `"segment"`) != strings.Count(before, `"segment"`) {
		t.Errorf("it wrote to the log:\n%s", after)
	}

	fresh := t.TempDir()
	if out, err := validate("DIR="+fresh, "XDG_DATA_HOME="+fresh); err != nil || !strings.Contains(out, "Valid configuration") {
		t.Errorf("before the first start: %v\n%s", err, out)
	}
	_ = filepath.WalkDir(fresh, func(path string, _ fs.DirEntry, _ error) error {
		if strings.Contains(path, "audit") || strings.Contains(path, "store") {
			t.Errorf("it left %s behind", path)
		}
		return nil
	})

	// What it cannot open it reads nevertheless.
	if out, err := validate("MASTER="); err == nil {
		t.Errorf("without the master token: %s", out)
	}
}
