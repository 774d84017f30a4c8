package scopegate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/logging"
	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/buildinfo"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/upstream"
)

// finding is one result of the preflight.
type finding struct {
	Gateway string `json:"gateway"`
	Check   string `json:"check"`
	Level   string `json:"level"` // ok, warn or fail
	Text    string `json:"text"`
	Mend    string `json:"mend,omitempty"`
}

// Thresholds of the preflight.
const (
	masterEndsSoon = 30 * 24 * time.Hour
	clockSlack     = 5 * time.Second
)

func checkCommand() *cobra.Command {
	var f configFlags
	var offline, tcpAdmin bool
	cmd := &cobra.Command{
		Use:   "check --config <file>",
		Short: "Checks a configuration and its surroundings before it runs",
		Long: `Checks what ` + "`validate`" + ` cannot: that the master token is accepted and when it
ends, that the clock agrees with GoodAccess's, that files which hold secrets are
private, that the admin endpoint is not open to whoever reaches a port, that the
audit log can be written, and that no team holds what nobody can use.

It sends one request, GET /api/v1/test-connection, unless --offline is given. It can
be asked while a gateway runs. Run it as the gateway's user, with its environment:
root can write where that user cannot.

Exit codes: 0 well, perhaps with warnings, 1 something failed, 2 the command is
called wrongly.`,
		Example: `  scopegate check --config /etc/scopegate/Caddyfile
  scopegate check --config Caddyfile --offline --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := f.load()
			if err != nil {
				return err
			}
			p := &preflight{now: time.Now(), offline: offline, tcpAdmin: tcpAdmin, progress: cmd.ErrOrStderr()}
			for _, l := range found {
				p.gateway(cmd.Context(), l)
			}
			if f.json {
				err = printJSON(cmd.OutOrStdout(), p.findings)
			} else {
				p.print(cmd.OutOrStdout())
			}
			if err == nil && slices.ContainsFunc(p.findings, func(f finding) bool { return f.Level == "fail" }) {
				return fail(cmd)
			}
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&offline, "offline", false, "send nothing to GoodAccess")
	cmd.Flags().BoolVar(&tcpAdmin, "allow-tcp-admin", false, "only warn of an admin endpoint on a TCP port")
	return cmd
}

type preflight struct {
	now               time.Time
	offline, tcpAdmin bool
	progress          io.Writer
	findings          []finding
	name              string
}

func (p *preflight) add(level, check, text, mend string) {
	p.findings = append(p.findings, finding{p.name, check, level, text, mend})
}

func (p *preflight) gateway(ctx context.Context, l loaded) {
	p.name = l.Name
	if err := l.check(); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			p.add("fail", "config", line, "mend the line named")
		}
		return
	}
	p.add("ok", "config", fmt.Sprintf("teams: %d, static credentials: %d", len(l.rules.teams), len(l.rules.credentials)), "")
	for _, n := range l.rules.notes {
		p.add("warn", "config", n, "name the scopes that are meant")
	}
	p.admin(l.config)
	p.tokenFile(l.Gateway)
	p.master(ctx, l.Gateway)
	p.expiry(l.Gateway)
	p.audit(l.Gateway)
	p.auditKey(l.Gateway)
	p.anchors(l.Gateway)
	p.store(ctx, l.Gateway)
	for _, t := range l.Teams {
		p.team(l.Gateway, t)
	}
}

// admin judges how open Caddy's admin endpoint is. Whoever reaches it can
// have any file and variable of the process printed, the master included.
func (p *preflight) admin(config *caddy.Config) {
	listen := caddy.DefaultAdminListen
	if config.Admin != nil {
		if config.Admin.Disabled {
			p.add("ok", "admin", "the admin endpoint is off", "")
			return
		}
		if config.Admin.Listen != "" {
			listen = config.Admin.Listen
		}
	}
	addr, err := caddy.ParseNetworkAddress(listen)
	mend := "write `admin unix//run/scopegate/admin.sock|0200` in the global options, or `admin off`"
	switch {
	case err != nil:
		p.add("fail", "admin", fmt.Sprintf("the admin endpoint %q cannot be read", listen), mend)
	case addr.IsUnixNetwork():
		p.add("ok", "admin", "the admin endpoint is a unix socket", "")
	case p.tcpAdmin:
		p.add("warn", "admin", "the admin endpoint listens on "+listen, mend)
	default:
		p.add("fail", "admin", "the admin endpoint listens on "+listen+": whoever reaches that port can read the master token", mend)
	}
}

func (p *preflight) tokenFile(g *Gateway) {
	path := g.Upstream.MasterTokenFile
	if name, ok := strings.CutPrefix(g.Upstream.MasterToken, "{file."); ok {
		path = strings.TrimSuffix(name, "}")
	}
	if path == "" {
		return
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		// Without its path, which may be the token itself.
		if named, ok := errors.AsType[*fs.PathError](err); ok && !filepath.IsAbs(path) {
			err = named.Err
		}
		p.add("fail", "file mode", fmt.Sprintf("the master token's file cannot be read: %v", err), "make it readable for the gateway's user")
	case !info.Mode().IsRegular(): // and no token: see master
	case info.Mode().Perm()&0o037 != 0:
		p.add("fail", "file mode", fmt.Sprintf("%s has mode %04o: others can read the master token", path, info.Mode().Perm()), "chmod 0400 "+path)
	default:
		p.add("ok", "file mode", fmt.Sprintf("%s has mode %04o", path, info.Mode().Perm()), "")
	}
}

// master asks GoodAccess whether it accepts the token, and what time it is
// there.
func (p *preflight) master(ctx context.Context, g *Gateway) {
	cctx, cancel := caddy.NewContext(caddy.Context{Context: ctx})
	defer cancel()
	f, err := upstream.New(cctx, g.Upstream, upstream.Options{UserAgent: "scopegate/" + buildinfo.Version(), Teams: 1})
	if err != nil {
		mend := "put the token there, alone, in a file that the gateway's user can read"
		if strings.HasPrefix(g.Upstream.MasterToken, "{env.") {
			mend = "set it where the gateway runs, and here as well: this command reads its own environment"
		}
		p.add("fail", "master token", err.Error(), mend)
		return
	}
	defer f.Close()
	if p.offline {
		p.add("ok", "master token", "is there; not tried (--offline)", "")
		return
	}
	fmt.Fprintf(p.progress, "asking %s ...\n", g.Upstream.URL)
	resp, err := f.Do(ctx, upstream.Request{Method: http.MethodGet, Path: "/api/v1/test-connection"})
	if err != nil {
		p.add("fail", "master token", fmt.Sprintf("test-connection: %v", err), "see that the URL is right, that it can be reached from here, and that the token is valid")
		return
	}
	defer resp.Body.Close()
	if resp.Status != http.StatusOK {
		p.add("fail", "master token", fmt.Sprintf("test-connection answered %d", resp.Status), "see that the URL is GoodAccess's")
		return
	}
	p.add("ok", "master token", "accepted by "+g.Upstream.URL, "")
	p.clock(resp.Date)
}

func (p *preflight) clock(date string) {
	theirs, err := http.ParseTime(date)
	if err != nil {
		p.add("warn", "clock", "GoodAccess does not tell its time, so the clock could not be compared", "see that the machine's clock is synchronised")
		return
	}
	off := time.Since(theirs).Abs().Truncate(time.Second)
	if off > clockSlack {
		p.add("fail", "clock", fmt.Sprintf("the clock is %s off GoodAccess's: expiries would be judged wrongly", off), "synchronise it (NTP)")
		return
	}
	p.add("ok", "clock", "agrees with GoodAccess's", "")
}

func (p *preflight) expiry(g *Gateway) {
	left := g.MasterTokenExpires.At.Sub(p.now)
	switch {
	case g.MasterTokenExpires.IsZero():
		p.add("warn", "expiry", "it is not said when the master token ends", "write `master_token_expires <date>` so that a metric and this check can warn")
	case left <= 0:
		p.add("fail", "expiry", "the master token has ended", "make a new one at GoodAccess")
	case left < masterEndsSoon:
		p.add("warn", "expiry", fmt.Sprintf("the master token ends in %d days", int(left.Hours()/24)), "make a new one at GoodAccess; a changed token file is used without a reload")
	default:
		p.add("ok", "expiry", fmt.Sprintf("the master token has %d days left", int(left.Hours()/24)), "")
	}
}

// store looks at the store without making one: what is not there yet is made
// by the gateway's own user when it starts.
func (p *preflight) store(ctx context.Context, g *Gateway) {
	conf, err := g.resolveStore()
	switch {
	case err != nil:
		p.add("fail", "store", err.Error(), "set what the `store` line names")
		return
	case conf.Driver == storeNone:
		p.add("warn", "store", "there is none: credentials cannot be made, rotated or revoked without a reload, and no tokens can be made", "write `store sqlite` or `store postgres {env.DATABASE_URL}`, unless this is a sidecar")
		return
	case conf.Driver == storeSQLite:
		if _, err := os.Stat(conf.Path); errors.Is(err, os.ErrNotExist) {
			if mend, err := canMake(filepath.Dir(conf.Path)); err != nil {
				p.add("fail", "store", err.Error(), mend)
				return
			}
			p.add("ok", "store", conf.Path+" will be made when the gateway starts", "")
			return
		}
	}
	db, err := conf.open(ctx, g.Name)
	if err != nil {
		p.add("fail", "store", err.Error(), "mend the store, or see docs/fleet.md for how to restore one")
		return
	}
	defer db.Close()
	mode, err := synchronousCommit(ctx, db)
	switch {
	case err != nil:
		p.add("fail", "store", err.Error(), "see that the database can be used")
	case loses(mode):
		p.add("warn", "store", "synchronous_commit is "+mode+": a revocation that was answered may be lost when the database fails", "set synchronous_commit to on for the gateway's user or database")
	default:
		p.add("ok", "store", "the store can be opened and is of a schema that this version knows", "")
	}
}

// audit sees whether the durable log can be written, without leaving a trace
// where there is none yet.
func (p *preflight) audit(g *Gateway) {
	path := g.defaultAuditFile()
	if g.Audit != nil && g.Audit.WriterRaw != nil {
		file := new(logging.FileWriter)
		if err := strictFile(g.Audit.WriterRaw, file); err != nil {
			p.add("fail", "audit", err.Error(), "write `audit { output file <path> }`")
			return
		}
		path = file.Filename
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_ = file.Close()
		info, err := os.Stat(path)
		if err == nil && info.Mode().Perm()&0o022 != 0 {
			p.add("fail", "audit", fmt.Sprintf("%s has mode %04o: others can change the audit log", path, info.Mode().Perm()), "chmod 0600 "+path)
			return
		}
		p.add("ok", "audit", path+" can be written", "")
		return
	}
	if !os.IsNotExist(err) {
		p.add("fail", "audit", err.Error(), "make it writable for the gateway's user: without a record no request is served")
		return
	}
	if mend, err := canMake(filepath.Dir(path)); err != nil {
		p.add("fail", "audit", err.Error(), mend+": without a record no request is served")
		return
	}
	p.add("ok", "audit", path+" can be made", "")
}

// auditKey sees whether the key is there by which the log would go on, or can be
// made with it.
func (p *preflight) auditKey(g *Gateway) {
	path, err := g.auditFile()
	if err != nil {
		return // audit says so
	}
	if g.Audit != nil && g.Audit.Key != "" {
		if _, err := g.Audit.keys(path); err != nil {
			p.add("fail", "audit key", err.Error(), "set it where the gateway runs, and here as well")
		}
		return
	}
	err = g.Audit.keyIsHere(path)
	switch {
	case err == nil:
	case hasLines(path):
		p.add("fail", "audit key", err.Error(), "if it is lost, move the log away before the gateway starts: `audit verify` would call it replaced from there on")
	default:
		if mend, err := canMake(filepath.Dir(auditKeyFile(path))); err != nil {
			p.add("fail", "audit key", err.Error(), mend)
		}
	}
}

// anchors looks at those that are files. A gateway runs without them, and what
// they are for shows only when it is too late.
func (p *preflight) anchors(g *Gateway) {
	if g.Audit == nil {
		return
	}
	for _, a := range g.Audit.Anchors {
		if a.File == "" {
			continue
		}
		file, err := os.OpenFile(a.File, os.O_WRONLY|os.O_APPEND, 0)
		switch {
		case err == nil:
			_ = file.Close()
		case os.IsNotExist(err):
			err = tryFolder(filepath.Dir(a.File)) // the gateway makes the file alone
		}
		if err != nil {
			p.add("fail", "anchor", err.Error(), "make "+a.File+" writable for the gateway's user, or its folder: without it nothing outside of the log holds what the log said")
			continue
		}
		p.add("ok", "anchor", a.File+" can be written", "")
	}
}

// canMake sees whether a file can be made in a folder, which is made for it where
// there is none, and says how to mend it if not.
func canMake(dir string) (mend string, err error) {
	near := nearestDir(dir)
	err = tryFolder(near)
	switch {
	case err != nil && near != dir:
		return "make " + dir + ", and give it to the gateway's user", fmt.Errorf("there is no %s, and it cannot be made: %w", dir, err)
	case err != nil:
		return "make " + dir + " writable for the gateway's user", err
	}
	return "", nil
}

// tryFolder makes a file in a folder, and takes it away again.
func tryFolder(dir string) error {
	probe, err := os.CreateTemp(dir, ".scopegate-check-*")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

func nearestDir(dir string) string {
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return dir
		}
		dir = parent
	}
}

// team looks for what a team holds and nobody can use.
func (p *preflight) team(g *Gateway, t *Team) {
	at := "team " + t.Name
	// Stored credentials may hold all that their team does: with a store, nothing
	// is out of reach.
	storeless := g.Store != nil && g.Store.Driver == storeNone
	usable := 0
	var scopesUsable scopes.Set
	for _, c := range g.rules.credentials {
		if c.Identity.Team.Name != t.Name {
			continue
		}
		if c.State == credential.Active && (c.Expires.IsZero() || p.now.Before(c.Expires)) {
			usable++
			scopesUsable = scopesUsable.Union(c.Identity.Scopes)
		}
	}
	if usable == 0 && storeless {
		p.add("warn", at, "no credential of it is in force: nobody can use its grants", "scopegate key generate --team "+t.Name)
		return
	}
	held := scopes.Set{}
	for _, team := range g.rules.teams {
		if team.Name == t.Name {
			held = team.Scopes
		}
	}
	if held.Empty() {
		p.add("warn", at, "holds no scope: only test-connection and whoami are left", "add `scopes ...` to it")
	}
	if lost := held.Minus(scopesUsable); storeless && !lost.Empty() {
		p.add("warn", at, "no credential in force holds "+lost.String(), "remove these scopes from the team, or from what narrows its credentials")
	}
	if off := held.Minus(g.rules.router.Needed()); !off.Empty() {
		p.add("warn", at, "no operation that is on needs "+off.String(), "write `operations +inferred`, or remove these scopes")
	}
	create, _ := scopes.Parse("token.create")
	switch {
	case held.Has(create) && t.Mint == nil:
		p.add("warn", at, "holds token.create but has no mint block: every mint is refused", "add `mint { scopes ...; allowed_ips ... }`")
	case !held.Has(create) && t.Mint != nil:
		p.add("warn", at, "has a mint block but does not hold token.create: nobody can mint", "add token.create to its scopes")
	default:
		p.add("ok", at, fmt.Sprintf("scopes: %d, static credentials in force: %d", held.Len(), usable), "")
	}
}

func (p *preflight) print(w io.Writer) {
	for _, f := range p.findings {
		fmt.Fprintf(w, "%-5s %-16s %s\n", f.Level, f.Check, f.Text)
		if f.Mend != "" {
			fmt.Fprintf(w, "%-5s %-16s -> %s\n", "", "", f.Mend)
		}
	}
}
