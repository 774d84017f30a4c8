package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Variable names the environment variable that says where to make databases
// instead of in a cluster of one's own.
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
	name := "scopegate_test_" + strings.ToLower(rand.Text())
	if err := execute(server, "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("making a database: %v", err)
	}
	tb.Cleanup(func() {
		if err := execute(server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("dropping a database: %v", err)
		}
	})
	return in(server, name)
}

// in returns how to reach another database of the same server.
func in(dsn, database string) string {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme == "" {
		return dsn + " dbname=" + database // of a word that is said twice, the last one holds
	}
	u.Path = "/" + database
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
