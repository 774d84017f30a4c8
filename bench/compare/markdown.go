package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// What stands between these lines of a file is replaced; the rest is its own.
const (
	begin  = "<!-- compare -->\n"
	finish = "<!-- /compare -->\n"
)

// writeMarkdown puts the tables into a file.
func (r result) writeMarkdown(path string) error {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var tables strings.Builder
	r.markdown(&tables)
	text, err = embed(text, tables.String())
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return os.WriteFile(path, text, 0o644) //nolint:gosec // a page for all to read
}

// embed replaces what a text has between the two lines. A text that is not empty
// has to have them, so that no other file is overwritten.
func embed(text []byte, tables string) ([]byte, error) {
	if len(text) == 0 {
		return []byte(begin + tables + finish), nil
	}
	before, rest, begins := strings.Cut(string(text), begin)
	_, after, ends := strings.Cut(rest, finish)
	if !begins || !ends {
		return nil, fmt.Errorf("it has no lines %q and %q", strings.TrimSpace(begin), strings.TrimSpace(finish))
	}
	return []byte(before + begin + tables + finish + after), nil
}

func (r result) markdown(w io.Writer) {
	fmt.Fprintf(w, "%s.\n\n| goal | ratio | limit | |\n|---|---:|---:|---|\n", r.Conditions)
	for _, v := range r.Goals {
		fmt.Fprintf(w, "| %s | %.2f | %s | %s |\n", v.What, v.Ratio, v.bound(), v.word())
	}
	for _, o := range r.Outcomes {
		fmt.Fprintf(w, "\n**%s** (`%s`, %s)\n\n| | %s |\n|---|%s\n", o.Title, o.Name, o.Load,
			strings.Join(columns, " | "), strings.Repeat("---:|", len(columns)))
		for i, name := range o.Entries {
			fmt.Fprintf(w, "| %s | %s |\n", name, strings.Join(o.cells(i), " | "))
		}
	}
}

// charted is the scenario that the chart shows.
const charted = "get"

// outcome finds that of a scenario.
func (r result) outcome(name string) (outcome, bool) {
	i := slices.IndexFunc(r.Outcomes, func(o outcome) bool { return o.Name == name })
	if i < 0 {
		return outcome{}, false
	}
	return r.Outcomes[i], true
}
