// Package pgtest runs private PostgreSQL clusters for tests and benches, on
// systems of the Unix kind. It decides where a cluster lives and when it ends,
// which is with its process at the latest; it never touches a cluster that it
// did not start, but for the databases that it makes where
// SCOPEGATE_TEST_POSTGRES says.
package pgtest

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// settings make a cluster quick and small. Nothing in it is to outlive a crash
// of the machine.
const settings = "-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200 -c shared_buffers=32MB " +
	"-c fsync=off -c full_page_writes=off"

// keeper starts the server, waits for a line from its parent, and stops the
// server again. If the parent died instead, however it did, its end of the pipe
// is closed, and the cluster goes with it: a server that a killed test left
// behind would stay for good.
const keeper = `cd / && "$1/pg_ctl" -D "$2/data" -l "$2/log" -o "$3" -w -t 60 start >>"$2/log" 2>&1 || exit 1
echo ready
read -r word
"$1/pg_ctl" -D "$2/data" -m fast -w -t 60 stop >>"$2/log" 2>&1
[ "$word" = keep ] || rm -rf "$2"`

// Cluster is one server with its data. It is for one goroutine at a time.
type Cluster struct {
	bin      string
	dir      string
	port     int
	password string
	owner    *syscall.Credential // nil is whoever runs this process

	keeper *exec.Cmd      // nil while the server is stopped
	leash  io.WriteCloser // what the keeper reads
}

// Start makes a cluster and starts its server. What is made ends with this
// process, or by Close.
func Start() (*Cluster, error) {
	c, err := create()
	if err != nil {
		return nil, fmt.Errorf("making a PostgreSQL cluster: %w", err)
	}
	if err := c.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(c.dir))
	}
	return c, nil
}

func create() (*Cluster, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "scopegate-pg")
	if err != nil {
		return nil, err
	}
	c := &Cluster{bin: bin, dir: dir, password: rand.Text()}
	if err := c.initialize(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, nil
}

func (c *Cluster) initialize() (err error) {
	if c.port, err = freePort(); err != nil {
		return err
	}
	if c.owner, err = unprivileged(); err != nil {
		return err
	}
	secret := filepath.Join(c.dir, "password")
	if err := os.WriteFile(secret, []byte(c.password), 0o600); err != nil {
		return err
	}
	if c.owner != nil {
		for _, path := range []string{c.dir, secret} {
			if err := os.Chown(path, int(c.owner.Uid), int(c.owner.Gid)); err != nil {
				return err
			}
		}
	}
	cmd := c.command(filepath.Join(c.bin, "initdb"), "--pgdata="+filepath.Join(c.dir, "data"), "--username=postgres",
		"--auth=scram-sha-256", "--pwfile="+secret, "--encoding=UTF8", "--no-locale", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("running initdb: %w: %s", err, out)
	}
	return nil
}

// Start starts the server again after a Stop, on the port that it had.
func (c *Cluster) Start() error {
	if c.keeper != nil {
		return nil
	}
	cmd := c.command("/bin/sh", "-c", keeper, "sh", c.bin, c.dir, settings+" -p "+strconv.Itoa(c.port))
	leash, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n') // pg_ctl gives up by itself
	if line != "ready\n" {
		err := errors.Join(leash.Close(), cmd.Wait())
		log, _ := os.ReadFile(filepath.Join(c.dir, "log"))
		return fmt.Errorf("starting PostgreSQL: %w: %s", err, log)
	}
	c.keeper, c.leash = cmd, leash
	return nil
}

// Stop stops the server, which ends all connections, and keeps its data.
func (c *Cluster) Stop() error { return c.stop("keep\n") }

// Demote has the server come up as a standby when it is started the next time,
// as the old primary does after a failover.
func (c *Cluster) Demote() error {
	return os.WriteFile(filepath.Join(c.dir, "data", "standby.signal"), nil, 0o600)
}

// Close stops the server, if it runs, and removes its data.
func (c *Cluster) Close() error {
	return errors.Join(c.stop("\n"), os.RemoveAll(c.dir))
}

func (c *Cluster) stop(word string) error {
	if c.keeper == nil {
		return nil
	}
	_, err := io.WriteString(c.leash, word)
	err = errors.Join(err, c.leash.Close(), c.keeper.Wait())
	c.keeper, c.leash = nil, nil
	if err != nil {
		return fmt.Errorf("stopping PostgreSQL: %w", err)
	}
	return nil
}

// DSN returns how to reach a database of the cluster as its superuser. Each
// cluster has one that is called postgres.
func (c *Cluster) DSN(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", c.password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// command runs a program as the cluster's owner, in a group of its own: an
// interrupt at the terminal is meant for the test, which then ends the cluster
// in good order.
func (c *Cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Dir = "/"
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PG") }), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.owner}
	return cmd
}

// binaries finds the server's programs, which most packages keep out of PATH.
func binaries() (dir string, err error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", errors.New("no initdb in PATH or /usr/lib/postgresql/*/bin; install PostgreSQL's server " +
			"(on Debian: apt-get install postgresql), or set SCOPEGATE_TEST_POSTGRES to the URL of one where databases may be made")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// unprivileged returns whom to run the server as if this is root, as whom it
// refuses to run.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("there is neither a user postgres nor nobody to run the server as")
}

// freePort returns a port that nobody uses now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // takes no time
	if err != nil {
		return 0, err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}
