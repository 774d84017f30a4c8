package integration_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/google/go-cmp/cmp"
)

// TestCaddyfiles reads caddyfile_adapt: each file is a Caddyfile, a line of
// hyphens, and what comes of it: the configuration as JSON, or lines that
// stand in the error with which it is refused, when it is read or when it is
// about to run.
func TestCaddyfiles(t *testing.T) {
	// Whatever is tried out here stays in a folder of its own.
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("SCOPEGATE_MASTER", "a-master-token-in-a-variable")
	files, err := filepath.Glob("caddyfile_adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, found := strings.Cut(string(text), "\n----------\n")
			if want = strings.TrimSpace(want); !found || want == "" {
				t.Fatal("nothing is expected")
			}
			adapted, err := adapt(input + "\n")
			if strings.HasPrefix(want, "{") {
				if err != nil {
					t.Fatal(err)
				}
				compare(t, adapted, want)
				return
			}
			if err == nil {
				err = validate(adapted)
			}
			if err == nil {
				t.Fatalf("it was accepted; want\n%s", want)
			}
			for line := range strings.Lines(want) {
				if !strings.Contains(err.Error(), strings.TrimSpace(line)) {
					t.Errorf("the error is\n%v\nwant in it\n%s", err, line)
				}
			}
			if strings.Contains(err.Error(), "a-master-token") || strings.Contains(err.Error(), "sgk_000000000000_1111") {
				t.Errorf("the error holds a secret: %v", err)
			}
		})
	}
}

// adapt reads a Caddyfile as Caddy does.
func adapt(text string) ([]byte, error) {
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	return adapted, err
}

// validate sets a configuration up as far as it goes without serving.
func validate(adapted []byte) error {
	var config caddy.Config
	if err := json.Unmarshal(adapted, &config); err != nil {
		return err
	}
	// What Caddy says meanwhile is of no use here.
	config.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)}},
	}}
	return caddy.Validate(&config)
}

func compare(t *testing.T, adapted []byte, want string) {
	t.Helper()
	var got bytes.Buffer
	if err := json.Indent(&got, adapted, "", "\t"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("adapted (-want +got):\n%s", diff)
	}
}
