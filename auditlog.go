package scopegate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

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
	file    io.Closer
	key     string
	options string
}

// Destruct closes the file when no gateway writes to it any more.
func (d *durableLog) Destruct() error { return d.file.Close() }

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

// openAudit opens the durable log and its mirrors. There is no gateway
// without a durable log: what cannot be recorded is not done.
func (g *Gateway) openAudit(ctx caddy.Context) error {
	conf := g.Audit
	if conf == nil {
		conf = &Audit{}
	}
	if conf.WriterRaw == nil {
		if len(conf.MirrorsRaw) > 0 {
			return errors.New("audit: no `output file`: the durable log is a file; other outputs are only copies of it")
		}
		conf.WriterRaw = caddyconfig.JSONModuleObject(
			logging.FileWriter{Filename: g.defaultAuditFile()}, "output", "file", nil)
	}
	options := string(conf.WriterRaw)
	mod, err := ctx.LoadModule(conf, "WriterRaw")
	if err != nil {
		return fmt.Errorf("loading the audit writer: %w", err)
	}
	file, ok := mod.(*logging.FileWriter)
	if !ok {
		return fmt.Errorf("audit: the durable log must be `output file <path>`, not %T", mod)
	}
	keepAll(file)
	if g.logFile, err = openFile(file, options); err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	if g.logFile.options != options {
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

func openFile(file *logging.FileWriter, options string) (*durableLog, error) {
	key := file.WriterKey()
	v, _, err := auditFiles.LoadOrNew(key, func() (caddy.Destructor, error) {
		w, err := file.OpenWriter()
		if err != nil {
			return nil, err
		}
		return &durableLog{Sink: audit.NewSink(w), file: w, key: key, options: options}, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*durableLog), nil //nolint:forcetypeassert // only these are stored in it
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
		w, err := opener.OpenWriter()
		if err != nil {
			return fmt.Errorf("opening audit mirror %s: %w", opener, err)
		}
		g.mirrors = append(g.mirrors, w)
	}
	return nil
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
