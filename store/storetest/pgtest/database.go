package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Variable names the environment variable that has the URL of where to make
// databases instead of in a cluster of one's own.
const Variable = "SCOPEGATE_TEST_POSTGRES"

// shared is the one cluster of a process. Nobody closes it: it ends with the
// process.
var shared = sync.OnceValues(Start)

// Database makes an empty database, which is dropped when the test is over,
// and returns how to reach it.
func Database(tb testing.TB) (dsn string) {
	tb.Helper()
	server := os.Getenv(Variable)
	if server == "" {
		c, err := shared()
		if err != nil {
			tb.Fatal(err)
		}
		server = c.DSN("postgres")
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		tb.Fatalf("%s is to be a URL, like postgres://user:password@db.example.com/database", Variable)
	}
	name := "scopegate_test_" + strings.ToLower(rand.Text())
	if err := execute(server, "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("making a database: %v", err)
	}
	tb.Cleanup(func() {
		if err := execute(server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("dropping a database: %v", err)
		}
	})
	u.Path = "/" + name
	return u.String()
}

func execute(dsn, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// Text returns every row of every table of a database as text, for tests that
// look for what must not be there.
func Text(ctx context.Context, dsn string) (string, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`)
	if err != nil {
		return "", err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, table := range tables {
		rows, err := conn.Query(ctx, "SELECT t::text FROM "+pgx.Identifier{table}.Sanitize()+" t")
		if err != nil {
			return "", err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&text, "%s\n%s\n", table, strings.Join(lines, "\n"))
	}
	return text.String(), nil
}
