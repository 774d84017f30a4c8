// Command tamper writes an audit log with the real gateway, harms copies of it
// in every way, at random places, and sees that `scopegate audit verify` finds
// each.
//
//	go run ./bench/tamper [-records 10000] [-edits 1000]
//
// The gateway signs its log into an anchor as it does by default, and rolls it.
// Only what the anchor covers is harmed: what came since is said by verify not
// to be covered. Each copy is checked by the code that the command runs; the
// untouched log, and some of the copies, by the command itself.
//
// The exit status is 1 where an edit was not found, was found elsewhere than it
// is, or the untouched log did not pass; 2 where nothing could be measured.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/audit/logfile"
	"github.com/scopegate/scopegate/bench/rig"
	"github.com/scopegate/scopegate/credential"
)

func main() {
	records := flag.Int("records", 10_000, "records in the log, at least")
	edits := flag.Int("edits", 1000, "copies that are harmed")
	flag.Parse()
	rig.Main("tamper", func(ctx context.Context) (bool, error) { return run(ctx, *records, *edits) })
}

func run(ctx context.Context, records, edits int) (ok bool, err error) {
	w, err := rig.NewWorld(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	l, err := write(ctx, w, records)
	if err != nil {
		return false, err
	}
	whole := l.verify(l.lines)
	fmt.Printf("tamper: a log of %d lines, %d records, %d anchors, the last at line %d\n", len(l.lines), whole.Records, len(l.anchors), whole.Anchored)
	if !whole.Sound() || whole.Records < records || whole.Anchored == 0 {
		return false, fmt.Errorf("the untouched log: %+v", whole)
	}
	if code := l.command(ctx, l.lines); code != 0 {
		return false, fmt.Errorf("the command ends with %d for the untouched log", code)
	}
	fmt.Println("tamper: the untouched log passes")

	missed, counts := 0, map[string]int{}
	for i := range edits {
		harm := harms[i%len(harms)]
		at := rand.IntN(int(whole.Anchored)-200) + 100 //nolint:gosec // any place will do
		harmed := harm.do(l.lines, at)
		report := l.verify(harmed)
		counts[harm.name]++
		switch {
		case report.Sound():
			missed++
			fmt.Printf("MISSED: %s at line %d\n", harm.name, at+1)
		case harm.named && !near(report.Findings[0].Line, at+1):
			missed++
			fmt.Printf("ELSEWHERE: %s at line %d: %+v\n", harm.name, at+1, report.Findings[0])
		case i < len(harms):
			if code := l.command(ctx, harmed); code != 3 {
				missed++
				fmt.Printf("THE COMMAND ends with %d: %s at line %d\n", code, harm.name, at+1)
			}
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
	for _, harm := range harms {
		fmt.Printf("  %5d  %s\n", counts[harm.name], harm.name)
	}
	fmt.Printf("tamper: edits=%d found=%d missed=%d\n", edits, edits-missed, missed)
	return missed == 0, nil
}

// near allows for the line before: whether it was changed, or what the line
// behind it says of it, cannot always be told.
func near(found, at int) bool { return found >= at-1 && found <= at+1 }

// log is a log with all of its files, and what it is held against.
type log struct {
	gateway *rig.Gateway
	lines   [][]byte
	key     string
	anchors []string
}

func write(ctx context.Context, w *rig.World, records int) (*log, error) {
	key := credential.Generate()
	g, err := w.Audited(ctx, "gateway", "output file {$DIR}/audit.jsonl {\n roll_size 1MiB\n roll_uncompressed\n}\nanchor file {$DIR}/anchors", key)
	if err != nil {
		return nil, err
	}
	defer g.Stop()
	var callers sync.WaitGroup
	failed := make(chan error, 8)
	for range cap(failed) {
		callers.Go(func() {
			for range records/2/cap(failed) + 1 { // each makes two records
				if status, err := g.Get(ctx, key.Reveal(), rig.Path); err != nil || status != http.StatusOK {
					failed <- fmt.Errorf("a request answered %d, %w", status, err)
					return
				}
			}
		})
	}
	callers.Wait()
	select {
	case err := <-failed:
		return nil, err
	default:
	}
	l := &log{gateway: g}
	if l.key, err = g.Run(ctx, "audit", "key", "--config", g.File); err != nil {
		return nil, err
	}
	g.Stop()
	return l, l.read()
}

func (l *log) read() error {
	path := filepath.Join(l.gateway.Dir, "audit.jsonl")
	files, err := logfile.Rolled(path)
	if err != nil {
		return err
	}
	for _, file := range append(files, path) {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		l.lines = slices.AppendSeq(l.lines, bytes.Lines(text))
	}
	notes, err := os.ReadFile(filepath.Join(l.gateway.Dir, "anchors"))
	if err != nil {
		return err
	}
	l.anchors = audit.SplitNotes(string(notes))
	return nil
}

// verify checks lines with the code of the command.
func (l *log) verify(lines [][]byte) audit.Report {
	v := audit.NewVerifier(audit.VerifyOptions{Keys: []string{strings.TrimSpace(l.key)}, Anchors: l.anchors})
	for i, line := range lines {
		v.Line("audit.jsonl", i+1, bytes.TrimSuffix(line, []byte("\n")))
	}
	return v.Finish()
}

// command checks lines with the command, and returns its exit code.
func (l *log) command(ctx context.Context, lines [][]byte) int {
	copied := filepath.Join(l.gateway.Dir, "copy.jsonl")
	if err := os.WriteFile(copied, bytes.Join(lines, nil), 0o600); err != nil {
		return -1
	}
	_, err := l.gateway.Run(ctx, "audit", "verify", copied, "--key", strings.TrimSpace(l.key), "--anchors", filepath.Join(l.gateway.Dir, "anchors"))
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		return failed.ExitCode()
	case err != nil:
		return -1
	}
	return 0
}
