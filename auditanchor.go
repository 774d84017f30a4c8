package scopegate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/store"
)

// Anchor is a place outside of the audit log that its signatures are put into.
// It has exactly one of its fields.
type Anchor struct {
	// A file, to which they are appended: on another machine, or where what
	// was written cannot be changed.
	File string `json:"file,omitempty"`

	// An HTTP endpoint, to which each is posted as text/plain. Any answer of
	// 2xx means that it is kept.
	URL string `json:"url,omitempty"`

	// One of Caddy's log writers, to which each is a line of JSON.
	WriterRaw json.RawMessage `json:"writer,omitempty" caddy:"namespace=caddy.logging.writers inline_key=output"`
}

// String names it, without what its writer or a URL's query may hold.
func (a *Anchor) String() string {
	place, _, _ := strings.Cut(a.URL, "?")
	return cmp.Or(a.File, place, "output")
}

func (a *Anchor) validate() error {
	given := 0
	for _, is := range []bool{a.File != "", a.URL != "", a.WriterRaw != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		return errors.New("an anchor is exactly one of a file, a url and a writer")
	}
	if a.URL == "" {
		return nil
	}
	u, err := url.Parse(a.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("an anchor at %q: expected a URL such as https://collector.internal/anchors", a.URL)
	case u.User != nil:
		return errors.New("an anchor's URL holds a password, which Caddy would show at GET /config/")
	}
	return nil
}

// open returns the place and what ends it.
func (a *Anchor) open(ctx caddy.Context) (audit.Anchor, io.Closer, error) {
	switch {
	case a.File != "":
		return anchorFile(a.File).put, nil, nil
	case a.URL != "":
		return anchorURL(a.URL).put, nil, nil
	}
	mod, err := ctx.LoadModule(a, "WriterRaw")
	if err != nil {
		return nil, nil, fmt.Errorf("loading the anchor's writer: %w", err)
	}
	opener, ok := mod.(caddy.WriterOpener)
	if !ok {
		return nil, nil, fmt.Errorf("anchor %T is no log writer", mod)
	}
	w, err := opener.OpenWriter()
	if err != nil {
		return nil, nil, fmt.Errorf("opening the anchor's writer %s: %w", opener, err)
	}
	return anchorWriter{w}.put, mirrorCloser{w}, nil
}

// anchorFile keeps signed notes, one behind another.
type anchorFile string

func (path anchorFile) put(_ context.Context, s audit.Signature) error {
	file, err := os.OpenFile(string(path), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// The empty line before it ends what a write has left that broke off.
	_, err = io.WriteString(file, "\n"+s.Note)
	return errors.Join(err, file.Sync(), file.Close())
}

type anchorURL string

// anchorClient follows no redirect: a place that has moved is for the operator
// to name.
var anchorClient = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (u anchorURL) put(ctx context.Context, s audit.Signature) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, string(u), strings.NewReader(s.Note))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := anchorClient.Do(req)
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err // without the query, which may hold what lets us in
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10)) // so that the connection is used again
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the anchor answered %d", resp.StatusCode)
	}
	return nil
}

type anchorWriter struct{ w io.Writer }

func (a anchorWriter) put(_ context.Context, s audit.Signature) error {
	line, err := json.Marshal(map[string]any{
		"ts": s.Time.Format(time.RFC3339), "msg": "audit anchor", "log": s.Log, "anchored": s.Seq, "signed": s.Note,
	})
	if err != nil {
		return err
	}
	_, err = a.w.Write(append(line, '\n'))
	return err
}

// mirrorCloser closes one of Caddy's writers.
type mirrorCloser struct{ w io.Closer }

func (m mirrorCloser) Close() error { return closeMirror(m.w) }

// storeAnchor keeps signatures in the gateway's store.
func storeAnchor(db rows) audit.Anchor {
	return func(ctx context.Context, s audit.Signature) error {
		return db.Anchor(ctx, store.Anchor{
			Log: s.Log, Day: s.Time.UTC().Format(time.DateOnly), Seq: int64(s.Seq), Note: s.Note,
		})
	}
}

// openAnchors begins to put the log's signatures into the store and the places
// that are configured. What the store has of the log shows whether its end was
// cut off while no process remembered it.
func (g *Gateway) openAnchors(ctx caddy.Context) error {
	if g.room != nil {
		if kept, err := g.room.rows.Anchors(ctx, g.logFile.Log()); err == nil && len(kept) > 0 {
			g.logFile.Witness(kept[len(kept)-1].Note)
		} // a store that is away is told of elsewhere
		g.anchor(storeAnchor(g.room.rows), nil)
	}
	if g.Audit == nil {
		return nil
	}
	for _, a := range g.Audit.Anchors {
		put, closer, err := a.open(ctx)
		if err != nil {
			return err
		}
		g.anchor(reported(put, g.logger.With(zap.String("anchor", a.String()))), closer)
	}
	return nil
}

// reported says in the log when an anchor begins to fail and when it takes
// signatures again: a path that was misspelt harms nobody until it is needed.
func reported(put audit.Anchor, logger *zap.Logger) audit.Anchor {
	failing := false // an anchor is asked one thing at a time
	return func(ctx context.Context, s audit.Signature) error {
		err := put(ctx, s)
		switch {
		case err != nil && !failing:
			logger.Error("an anchor of the audit log does not take signatures; they are tried again", zap.Error(err))
		case err == nil && failing:
			logger.Info("the anchor of the audit log takes signatures again")
		}
		failing = err != nil
		return err
	}
}

func (g *Gateway) anchor(put audit.Anchor, closer io.Closer) {
	end := g.logFile.Anchor(put, g.meter)
	g.anchors = append(g.anchors, func() error {
		end()
		if closer == nil {
			return nil
		}
		return closer.Close()
	})
}

// parseAnchor reads `anchor file <path>`, `anchor http <url>` and `anchor output
// <writer> ...`.
func (a *Audit) parseAnchor(d *caddyfile.Dispenser) error {
	var kind, what string
	if !d.Args(&kind, &what) {
		return d.Errf("expected `anchor file <path>`, `anchor http <url>` or `anchor output <writer>`")
	}
	anchor := &Anchor{}
	switch kind {
	case "file":
		anchor.File = what
	case "http":
		anchor.URL = what
	case "output":
		w, err := parseWriter(d, what)
		if err != nil {
			return err
		}
		anchor.WriterRaw = caddyconfig.JSONModuleObject(w, "output", what, nil)
	default:
		return d.Errf("unknown anchor %q; expected file, http or output", kind)
	}
	if kind != "output" && d.NextArg() {
		return d.ArgErr()
	}
	a.Anchors = append(a.Anchors, anchor)
	return nil
}
