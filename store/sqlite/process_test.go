package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/scopegate/scopegate/store"
	"github.com/scopegate/scopegate/store/sqlite"
)

// A process of the test binary that has this variable is another process of
// the same machine: it opens the file, prints a line for each row that is
// stored, and goes on until its input ends.
const fileOfChild = "SCOPEGATE_TEST_STORE"

func TestMain(m *testing.M) {
	if path := os.Getenv(fileOfChild); path != "" {
		if err := child(path, os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func child(path, name string) error {
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	ctx := context.Background()
	s, err := sqlite.Open(ctx, path, "default")
	if err != nil {
		return err
	}
	fmt.Println("open")
	for n := 0; ; n++ {
		select {
		case <-ended:
			return s.Close()
		default:
		}
		id := fmt.Sprintf("%s-%d", name, n)
		if _, err := s.Insert(ctx, credential(id), 0); err != nil {
			return err
		}
		fmt.Println(id)
	}
}

type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner
}

func start(t *testing.T, path, name string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], name)
	cmd.Env = append(os.Environ(), fileOfChild+"="+path, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &process{cmd: cmd, stdin: stdin, lines: bufio.NewScanner(stdout)}
}

// read returns the next n lines, or all that are left.
func (p *process) read(n int) (lines []string) {
	for len(lines) != n && p.lines.Scan() {
		lines = append(lines, p.lines.Text())
	}
	return lines
}

// end lets the process go and returns what it still printed.
func (p *process) end(t *testing.T) []string {
	t.Helper()
	p.stdin.Close()
	lines := p.read(-1)
	if err := p.cmd.Wait(); err != nil {
		t.Error(err)
	}
	return lines
}

func TestOpenInSeveralProcesses(t *testing.T) {
	for range 3 {
		path := filepath.Join(t.TempDir(), "store.db")
		var all []*process
		for i := range 4 {
			all = append(all, start(t, path, fmt.Sprint(i)))
		}
		var printed []string
		for _, p := range all {
			lines := p.read(3)
			if len(lines) != 3 {
				t.Fatalf("a process printed %q", lines)
			}
			printed = append(printed, lines[1:]...)
		}
		for _, p := range all {
			printed = append(printed, p.end(t)...)
		}
		s := open(t, path, "default")
		if n := count(t, s); n != len(printed) {
			t.Errorf("%d rows; the processes stored %d", n, len(printed))
		}
	}
}

// Followers of the feed learn of another process's change as of their own.
func TestHintOfAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, "default")
	p := start(t, path, "a")
	if len(p.read(3)) != 3 {
		t.Fatal("the process stored nothing")
	}
	select {
	case <-s.Hints():
	case <-time.After(5 * time.Second):
		t.Error("no hint")
	}
	p.end(t)
	c, err := s.Changes(t.Context(), 0, 0)
	if err != nil || len(c.List) < 2 {
		t.Errorf("%d changes, %v", len(c.List), err)
	}
}

// Whatever instant a process dies at, a key that was handed out works, and
// none is there by half.
func TestKillLeavesWholeCredentials(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	var printed []string
	for round := range 10 {
		p := start(t, path, fmt.Sprint(round))
		lines := p.read(2 + round*3)
		if len(lines) < 2 {
			t.Fatalf("a process printed %q", lines)
		}
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, p.read(-1)...)
		p.cmd.Wait()
		printed = append(printed, lines[1:]...)
	}
	s := open(t, path, "default")
	for _, id := range printed {
		if _, err := s.Credential(t.Context(), id); err != nil {
			t.Errorf("%s was stored: %v", id, err)
		}
	}
	rows := all(t, s)
	if len(rows) < len(printed) || len(rows) > len(printed)+10 {
		t.Errorf("%d rows; %d were told of", len(rows), len(printed))
	}
	seen := map[int64]bool{}
	for _, c := range rows {
		if len(c.Generations) != 2 || c.Generations[1].Hash != credential(c.ID).Generations[1].Hash {
			t.Errorf("%s is there by half: %+v", c.ID, c)
		}
		if seen[c.Revision] {
			t.Errorf("revision %d is given twice", c.Revision)
		}
		seen[c.Revision] = true
	}
	if broken := column(t, path, `SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'`); broken[0] != 0 {
		t.Errorf("%d faults in the file", broken[0])
	}
}

func all(t *testing.T, s *sqlite.Store) (rows []store.Credential) {
	t.Helper()
	for filter := (store.Filter{Limit: 1000}); ; {
		page, next, err := s.Credentials(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, page...)
		if filter.After = next; next == "" {
			return rows
		}
	}
}

func count(t *testing.T, s *sqlite.Store) int {
	t.Helper()
	return len(all(t, s))
}
