package pgtest_test

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/scopegate/scopegate/store/storetest/pgtest"
)

// asChild makes this binary start a cluster and wait to be killed.
const asChild = "PGTEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

func child() {
	c, err := pgtest.Start()
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString(c.DSN("postgres") + "\n")
	select {}
}

func query(t *testing.T, dsn, statement string) (answer string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, statement).Scan(&answer)
	return answer, err
}

func TestClusterStopsAndStarts(t *testing.T) {
	c, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dsn := c.DSN("postgres")
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 'here'::text AS what"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second Stop or Start does nothing
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := query(t, dsn, "SELECT what FROM kept"); err == nil {
		t.Error("a stopped server answers")
	}
	for range 2 {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := query(t, dsn, "SELECT what FROM kept"); got != "here" || err != nil {
		t.Errorf("after a start: %q, %v", got, err)
	}
	dir, err := query(t, dsn, "SHOW data_directory")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(strings.TrimSuffix(dir, "/data")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
}

// A test that times out is killed, and runs no cleanup.
func TestClusterEndsWithItsProcess(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), asChild+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dsn, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	dir, err := query(t, strings.TrimSpace(dsn), "SHOW data_directory")
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(strings.TrimSuffix(dir, "/data")); errors.Is(err, fs.ErrNotExist) {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the cluster is still there")
		}
	}
	if _, err := query(t, strings.TrimSpace(dsn), "SELECT ''"); err == nil {
		t.Error("the server still answers")
	}
}

func TestDatabasesAreApart(t *testing.T) {
	a, b := pgtest.Database(t), pgtest.Database(t)
	nameA, errA := query(t, a, "SELECT current_database()::text")
	nameB, errB := query(t, b, "SELECT current_database()::text")
	if nameA == nameB || errA != nil || errB != nil {
		t.Errorf("%q and %q; %v, %v", nameA, nameB, errA, errB)
	}
	var gone string
	t.Run("dropped", func(t *testing.T) { gone = pgtest.Database(t) })
	if _, err := query(t, gone, "SELECT ''"); err == nil {
		t.Error("a database is there when its test is over")
	}
}

func TestDatabasesAreMadeWhereTheEnvironmentSays(t *testing.T) {
	server := pgtest.Database(t)
	t.Setenv(pgtest.Variable, server+"&application_name=elsewhere")
	made := pgtest.Database(t)
	if name, err := query(t, made, "SHOW application_name"); name != "elsewhere" || err != nil {
		t.Errorf("application_name %q, %v", name, err)
	}
	here, _ := query(t, server, "SELECT current_database()::text")
	if there, err := query(t, made, "SELECT current_database()::text"); there == here || err != nil {
		t.Errorf("database %q, %v", there, err)
	}
}
