package scopegate

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/logging"

	"github.com/scopegate/scopegate/audit/query"
)

func TestAuditTail(t *testing.T) {
	text := someLog(t)
	lines := strings.SplitAfter(text, "\n")
	log := write(t, "audit.jsonl", text)
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, text},
		{[]string{"-n", "2"}, lines[4] + lines[5]},
		{[]string{"-n", "2", "--team", "red"}, lines[3] + lines[4]},
	} {
		if out, errs, code := askLog(t, "", append([]string{"tail", log, "--json"}, c.args...)...); out != c.want || code != 0 {
			t.Errorf("%q: %d %s%s", c.args, code, out, errs)
		}
	}
	damaged := write(t, "audit.jsonl", strings.Repeat("torn\n", 30)+strings.TrimSuffix(lines[0], "\n"))
	out, errs, _ := askLog(t, "", "tail", damaged)
	if !strings.HasPrefix(out, "TIME ") || !strings.Contains(out, "listMembers") || strings.Count(errs, query.ErrNotJSON.Error()) != 20 {
		t.Errorf("%s%s", out, errs)
	}
	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"no record is like that": {[]string{log, "--team", "green"}, 3},
		"no such file":           {[]string{log + ".none"}, 1},
		"use `search -`":         {[]string{"-"}, 2},
		"must not be negative":   {[]string{log, "-n", "-1"}, 2},
	} {
		if _, errs, code := askLog(t, "", append([]string{"tail"}, c.args...)...); code != c.code || !strings.Contains(errs, name) {
			t.Errorf("%q: %d %s", c.args, code, errs)
		}
	}
}

// looks is a ticker whose next tick comes when the one before was dealt with.
func (t *tail) looks(ctx context.Context, tb testing.TB, paths []string) (look func(), end func()) {
	tb.Helper()
	ticks, done := make(chan time.Time), make(chan error, 1)
	go func() { done <- t.run(ctx, paths, true, ticks) }()
	look = func() {
		ticks <- time.Time{}
		ticks <- time.Time{} // taken when the one before is over
	}
	return look, func() {
		if err := <-done; err != nil {
			tb.Error(err)
		}
	}
}

// What Caddy's own writer rolls and compresses under way is neither missed nor
// printed twice, and search finds all of it afterwards.
func TestAuditTailFollowsOverRotations(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.jsonl")
	w, err := logging.FileWriter{Filename: path, RollSizeMB: 1, RollKeep: 100}.OpenWriter()
	if err != nil {
		t.Fatal(err)
	}
	n, want := 0, strings.Builder{}
	put := func() {
		n++
		// Three fill a file.
		line := fmt.Sprintf(`{"ts":"2026-11-24T13:%02d:%02dZ","msg":"audit","phase":"decided","team":"red","uuid":"u%d","x":"%s"}`+"\n", n/60, n%60, n, strings.Repeat("x", 300<<10))
		if n > 1 {
			want.WriteString(line)
		}
		if _, err := w.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	put()
	var out, errs bytes.Buffer
	f := &tail{recordFormat: recordFormat{json: true}, meter: &meter{to: &errs}, to: &out}
	ctx, cancel := context.WithCancel(t.Context())
	look, end := f.looks(ctx, t, []string{path})
	look()
	for _, records := range []int{1, 2, 5, 1, 12, 3} {
		for range records {
			put()
		}
		look()
	}
	cancel()
	end()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if out.String() != want.String() || errs.Len() > 0 {
		t.Errorf("%d bytes, want %d; %s", out.Len(), want.Len(), errs.String())
	}
	rolled, err := os.ReadDir(dir)
	if err != nil || len(rolled) < 6 {
		t.Errorf("%d files: %v", len(rolled), err)
	}
	found, told, code := askLog(t, "", "search", path, "--json")
	if _, found, _ = strings.Cut(found, "\n"); found != want.String() || code != 0 {
		t.Errorf("search found %d bytes, want %d; %d %s", len(found), want.Len(), code, told)
	}
}
