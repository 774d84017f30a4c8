package scopegate

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/logging"
	"go.uber.org/zap"

	"github.com/scopegate/scopegate/audit"
)

// auditFiles holds the open audit files of the process. One file is opened
// once, whatever reloads and gateways share it: two writers that each roll it
// would lose each other's records.
var auditFiles = caddy.NewUsagePool()

// durableLog is an audit file in use by a gateway.
type durableLog struct {
	*audit.Sink
	key     string
	options string
}

// Destruct closes the file when no gateway writes to it any more.
func (d *durableLog) Destruct() error { return d.Close() }

// closeMirror closes a mirror. Caddy's net writer panics when it is closed
// before it ever connected, which soft_start permits; that must end neither a
// reload nor the process.
func closeMirror(w io.Closer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("closing an audit mirror: %v", p)
		}
	}()
	return w.Close()
}

// keepAllDays is what "never delete" is in days: a hundred years, which still
// fits where the writer turns it into nanoseconds.
const keepAllDays = 36500

// durable is what the configuration says of the durable log.
func (g *Gateway) durable(ctx caddy.Context) (*Audit, *logging.FileWriter, audit.Packing, error) {
	conf := g.Audit
	if conf == nil {
		conf = &Audit{}
	}
	if conf.WriterRaw == nil {
		if len(conf.MirrorsRaw) > 0 {
			return nil, nil, "", errors.New("audit: no `output file`: the durable log is a file; other outputs are only copies of it")
		}
		conf.WriterRaw = caddyconfig.JSONModuleObject(
			logging.FileWriter{Filename: g.defaultAuditFile()}, "output", "file", nil)
	}
	mod, err := ctx.LoadModule(conf, "WriterRaw")
	if err != nil {
		return nil, nil, "", fmt.Errorf("loading the audit writer: %w", err)
	}
	file, ok := mod.(*logging.FileWriter)
	if !ok {
		return nil, nil, "", fmt.Errorf("audit: the durable log must be `output file <path>`, not %T", mod)
	}
	keepAll(file)
	rollFilesOnly(file)
	pack, err := packing(file)
	return conf, file, pack, err
}

// tryAudit reads all that openAudit and openAnchors would open.
func (g *Gateway) tryAudit(ctx caddy.Context) error {
	conf, _, _, err := g.durable(ctx)
	if err != nil {
		return err
	}
	if conf.Key != "" {
		if _, err := conf.keys(""); err != nil {
			return err
		}
	}
	if len(conf.MirrorsRaw) > 0 {
		if _, err := ctx.LoadModule(conf, "MirrorsRaw"); err != nil {
			return fmt.Errorf("loading the audit mirrors: %w", err)
		}
	}
	for _, a := range conf.Anchors {
		if a.WriterRaw == nil {
			continue
		}
		if _, err := ctx.LoadModule(a, "WriterRaw"); err != nil {
			return fmt.Errorf("loading the anchor's writer: %w", err)
		}
	}
	return nil
}

// openAudit opens the durable log and its mirrors. There is no gateway
// without a durable log: what cannot be recorded is not done.
func (g *Gateway) openAudit(ctx caddy.Context) error {
	conf, file, pack, err := g.durable(ctx)
	if err != nil {
		return err
	}
	if g.logFile, err = conf.openFile(file, pack); err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	if g.logFile.options != conf.options() {
		g.logger.Warn("the audit file is open with other options; changes take effect when the process restarts",
			zap.String("file", file.Filename))
	}
	if err := g.openMirrors(ctx, conf); err != nil {
		return err
	}
	writers := make([]io.Writer, len(g.mirrors))
	for i, m := range g.mirrors {
		writers[i] = m
	}
	g.log, err = audit.New(audit.Options{
		Gateway: g.Name, Durable: g.logFile.Sink, Mirrors: writers, Events: g.meter,
	})
	return err
}

// closeAudit ends the log before what it writes to.
func (g *Gateway) closeAudit() error {
	var errs []error
	if g.log != nil {
		errs = append(errs, g.log.Close())
	}
	for _, m := range g.mirrors {
		errs = append(errs, closeMirror(m))
	}
	if g.logFile != nil {
		_, err := auditFiles.Delete(g.logFile.key)
		errs = append(errs, err)
	}
	for _, end := range g.anchors {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// keepAll turns the writer's habit of deleting old files off wherever the
// configuration does not ask for it in words.
func keepAll(file *logging.FileWriter) {
	if file.RollKeep == 0 {
		file.RollKeep = math.MaxInt32
	}
	if file.RollKeepDays == 0 {
		file.RollKeepDays = keepAllDays
	}
}

// rollFilesOnly keeps the writer from rolling what is no file, such as /dev/null
// or a link to it. It would rename that: as root, the whole machine's.
func rollFilesOnly(file *logging.FileWriter) {
	if info, err := os.Stat(file.Filename); err == nil && !info.Mode().IsRegular() {
		never := false
		file.Roll = &never
	}
}

// packing takes from the writer how what it rolls is compressed, since it would
// delete a file before the disk has the compressed one.
func packing(file *logging.FileWriter) (audit.Packing, error) {
	p := audit.Packing(strings.ToLower(strings.TrimSpace(file.RollCompression)))
	switch p {
	case audit.PackGzip, audit.PackZstd, audit.PackNone:
	case "":
		p = audit.PackGzip
		if file.RollCompress != nil && !*file.RollCompress {
			p = audit.PackNone
		}
	default:
		return "", fmt.Errorf("audit: unknown roll_compression %q; expected gzip, zstd or none", file.RollCompression)
	}
	file.RollCompression = string(audit.PackNone)
	return p, nil
}

// options are what takes effect only when a file is opened.
func (a *Audit) options() string {
	return fmt.Sprintf("%s %s %v %q", a.WriterRaw, a.durability(), a.checkpoint(), a.Key)
}

func (a *Audit) openFile(file *logging.FileWriter, pack audit.Packing) (*durableLog, error) {
	key := file.WriterKey()
	v, _, err := auditFiles.LoadOrNew(key, func() (caddy.Destructor, error) {
		if err := a.keyIsHere(file.Filename); err != nil && hasLines(file.Filename) {
			caddy.Log().Named("scopegate").Warn("the audit log goes on under a new key, so that `audit verify` will call it replaced", zap.Error(err))
		}
		keys, err := a.keys(file.Filename)
		if err != nil {
			return nil, err
		}
		sink, err := a.openSink(file.Filename, keys, file.OpenWriter, pack)
		if err != nil {
			return nil, err
		}
		return &durableLog{Sink: sink, key: key, options: a.options()}, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*durableLog), nil //nolint:forcetypeassert // only these are stored in it
}

func (a *Audit) openSink(path string, keys *audit.Keys, open func() (io.WriteCloser, error), pack audit.Packing) (*audit.Sink, error) {
	checkpoint := a.checkpoint()
	return audit.Open(audit.FileOptions{
		Path: path, Open: open, Keys: keys, Durability: a.durability(),
		Records: checkpoint.Records, Every: time.Duration(checkpoint.Every),
		Packing: pack, Failed: func(err error) {
			caddy.Log().Named("scopegate").Warn("the audit log goes on without a part of it", zap.String("file", path), zap.Error(err))
		},
	})
}

// validate checks what can be checked without I/O.
func (a *Audit) validate() error {
	switch {
	case a == nil:
		return nil
	case a.Durability != "" && a.Durability != audit.Changes && a.Durability != audit.Full:
		return fmt.Errorf("audit: unknown durability %q; expected changes or full", a.Durability)
	case a.Checkpoint != nil && (a.Checkpoint.Records < 0 || a.Checkpoint.Every < 0):
		return errors.New("audit: a checkpoint comes after a number of lines and a time above zero, such as `checkpoint 1000 10s`")
	case a.Key != "" && !onePlaceholder.MatchString(a.Key):
		return errors.New("audit: the key must be exactly one {env.NAME} or {file.PATH}: Caddy would show it at GET /config/ and save it to disk")
	}
	for _, anchor := range a.Anchors {
		if err := anchor.validate(); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	return nil
}

func (a *Audit) durability() audit.Durability {
	if a == nil || a.Durability == "" {
		return audit.Changes
	}
	return a.Durability
}

func (a *Audit) checkpoint() Checkpoint {
	var c Checkpoint
	if a != nil && a.Checkpoint != nil {
		c = *a.Checkpoint
	}
	if c.Records == 0 {
		c.Records = audit.DefaultRecords
	}
	if c.Every == 0 {
		c.Every = caddy.Duration(audit.DefaultEvery)
	}
	return c
}

// keys reads the keys of the log of this path.
func (a *Audit) keys(path string) (*audit.Keys, error) {
	if a == nil || a.Key == "" {
		return audit.LoadKeys(auditKeyFile(path))
	}
	text, err := caddy.NewReplacer().ReplaceOrErr(a.Key, true, true)
	if err != nil {
		return nil, fmt.Errorf("the key of the audit log, %s, is not set, is empty or cannot be read", a.Key)
	}
	keys, err := audit.ParseKeys([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("reading the key of the audit log, %s: %w", a.Key, err)
	}
	return keys, nil
}

// keptKeys reads the keys of the log of this path, and makes none: one that was
// made just now has signed nothing there, and by it every sound log is forged and
// every secret unknown.
func (a *Audit) keptKeys(path string) (*audit.Keys, error) {
	if err := a.keyIsHere(path); err != nil {
		return nil, err
	}
	return a.keys(path)
}

// firstKeys is keptKeys, but that a log without a line may be given its key.
func (a *Audit) firstKeys(path string) (*audit.Keys, error) {
	if hasLines(path) {
		return a.keptKeys(path)
	}
	return a.keys(path)
}

func hasLines(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

// keyIsHere tells a key that is there from one that would be made.
func (a *Audit) keyIsHere(path string) error {
	if a != nil && a.Key != "" {
		return nil
	}
	file := auditKeyFile(path)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the key of the log %s is not at %s, a place that depends on the user and on XDG_DATA_HOME: run this as the gateway's user, with its environment", path, file)
	}
	return nil
}

// auditKeyFile is where the key of a log is kept: away from the log, so that
// who gathers logs does not gather keys, and by the log's path, so that gateways
// which share a log share its key.
func auditKeyFile(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(caddy.AppDataDir(), "scopegate", "audit-keys", fmt.Sprintf("%s-%x.key", filepath.Base(path), sum[:6]))
}

func (g *Gateway) openMirrors(ctx caddy.Context, conf *Audit) error {
	if len(conf.MirrorsRaw) == 0 {
		return nil
	}
	mods, err := ctx.LoadModule(conf, "MirrorsRaw")
	if err != nil {
		return fmt.Errorf("loading the audit mirrors: %w", err)
	}
	list, ok := mods.([]any)
	if !ok {
		return fmt.Errorf("loading the audit mirrors: got %T", mods)
	}
	for _, mod := range list {
		opener, ok := mod.(caddy.WriterOpener)
		if !ok {
			return fmt.Errorf("audit mirror %T is no log writer", mod)
		}
		if file, ok := mod.(*logging.FileWriter); ok {
			rollFilesOnly(file)
		}
		w, err := opener.OpenWriter()
		if err != nil {
			return fmt.Errorf("opening audit mirror %s: %w", opener, err)
		}
		g.mirrors = append(g.mirrors, w)
	}
	return nil
}

// auditFile is the path of the durable log.
func (g *Gateway) auditFile() (string, error) {
	if g.Audit == nil || g.Audit.WriterRaw == nil {
		return g.defaultAuditFile(), nil
	}
	file := new(logging.FileWriter)
	if err := strictFile(g.Audit.WriterRaw, file); err != nil {
		return "", err
	}
	path, err := caddy.NewReplacer().ReplaceOrErr(file.Filename, true, true)
	if err != nil {
		return "", fmt.Errorf("reading the name of the audit log: %w", err)
	}
	return path, nil
}

// strictFile reads the durable log's writer without opening it.
func strictFile(raw json.RawMessage, file *logging.FileWriter) error {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return fmt.Errorf("reading the audit writer: %w", err)
	}
	if string(fields["output"]) != `"file"` {
		return fmt.Errorf("the durable audit log is %s, not a file", fields["output"])
	}
	delete(fields, "output")
	plain, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return caddy.StrictUnmarshalJSON(plain, file)
}

// Interface guards.
var _ caddy.Destructor = (*durableLog)(nil)
