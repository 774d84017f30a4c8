package scopegate_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/scopegate/scopegate"
	"github.com/scopegate/scopegate/store/storetest/pgtest"
)

// block is one fenced block of a Markdown file.
type block struct {
	line       int // of its fence, from 1
	lang, name string
	text       string
}

// blocksOf reads the fenced blocks of a file. Each must say its language; a
// second word is the name of the file that the reader saves it to.
func blocksOf(t *testing.T, file string) []block {
	t.Helper()
	var list []block
	var open *block
	for i, line := range strings.Split(readText(t, file), "\n") {
		info, fence := strings.CutPrefix(strings.TrimLeft(line, " >"), "```")
		switch {
		case !fence && open != nil:
			open.text += line + "\n"
		case !fence:
		case open == nil:
			open = &block{line: i + 1}
			open.lang, open.name, _ = strings.Cut(info, " ")
			if open.lang == "" || !strings.HasPrefix(line, "```") {
				t.Errorf("%s:%d: a block without a language, or indented", file, open.line)
			}
		case info != "":
			t.Fatalf("%s:%d: a fence within a block", file, i+1)
		default:
			list, open = append(list, *open), nil
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the block does not end", file, open.line)
	}
	return list
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What an example leaves out, so that it can be shown by itself.
const (
	anUpstream = "upstream https://integration.goodaccess.com {\n\tmaster_token_file /run/secrets/goodaccess\n}\n"
	aTeam      = "team other {\n\tscopes members.read\n}\n"
)

// complete makes a whole Caddyfile of an example that shows a part of one: a
// `scopegate` block, options of it, or a site.
func complete(text string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	switch first {
	case "upstream", "team", "audit", "operations", "operation", "expires_zone", "store", "stamp_key":
		if !regexp.MustCompile(`(?m)^upstream `).MatchString(text) {
			text = anUpstream + text
		}
		if !regexp.MustCompile(`(?m)^team `).MatchString(text) {
			text = aTeam + text
		}
		text = "scopegate {\n" + text + "}\n"
		fallthrough
	case "scopegate":
		return "http://localhost:8080 {\n" + text + "}\n"
	}
	return text
}

// validateCaddyfile loads an example as `scopegate validate` does: it is
// adapted, and everything in it is provisioned.
func validateCaddyfile(t *testing.T, text string) {
	t.Helper()
	checkFormat(t, text)
	raw, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(here(t, complete(text)), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	validateConfig(t, raw)
}

// here puts the secrets and files that an example names into a folder of the
// test.
func here(t *testing.T, text string) []byte {
	t.Helper()
	const token = "an-example-of-a-token"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "goodaccess"), []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOODACCESS_MASTER_TOKEN", token)
	t.Setenv("SCOPEGATE_STAMP_KEY", "an-example-of-a-stamp-key")
	t.Setenv("XDG_DATA_HOME", dir)
	if strings.Contains(text, "{env.DATABASE_URL}") {
		t.Setenv("DATABASE_URL", pgtest.Database(t))
	}
	return []byte(strings.NewReplacer("/run/secrets/goodaccess", dir+"/goodaccess", "/var/log/scopegate/", dir+"/").Replace(text))
}

func validateConfig(t *testing.T, raw []byte) {
	t.Helper()
	config := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(raw, config); err != nil {
		t.Fatal(err)
	}
	config.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}}}}
	if err := caddy.Validate(config); err != nil {
		t.Errorf("%v\n%s", err, raw)
	}
}

func checkFormat(t *testing.T, text string) {
	t.Helper()
	if formatted := string(caddyfile.Format([]byte(text))); formatted != text {
		t.Errorf("not formatted; want\n%s", formatted)
	}
}

// checkJSON reads one or more JSON values, as a log has them.
func checkJSON(t *testing.T, text string) {
	t.Helper()
	values := json.NewDecoder(strings.NewReader(text))
	for n := 0; ; n++ {
		var v any
		switch err := values.Decode(&v); {
		case errors.Is(err, io.EOF) && n > 0:
			return
		case err != nil:
			t.Fatalf("value %d: %v", n+1, err)
		}
	}
}

// runGo runs a block of Go as the test file that it is, vetted as `go test`
// does. An overlay puts it into a folder of this module, with no file in the tree.
func runGo(t *testing.T, b block) {
	t.Helper()
	dir := t.TempDir()
	source, overlay := filepath.Join(dir, "source.go"), filepath.Join(dir, "overlay.json")
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	files, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "docs", b.name): source}})
	if err = errors.Join(err, os.WriteFile(source, []byte(b.text), 0o600), os.WriteFile(overlay, files, 0o600)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=all", "-v", "-overlay", overlay, "./docs")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// validateHandler loads a gateway that is written as JSON.
func validateHandler(t *testing.T, text string) {
	t.Helper()
	validateConfig(t, here(t, `{"apps":{"http":{"servers":{"example":{"listen":["127.0.0.1:8080"],"routes":[{"handle":[`+text+`]}]}}}}}`))
}
