package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

const canary = "gat_canary/0123456789"

func TestNewTokenRejectsTexts(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "is empty"},
		{"line ends alone", "\r\n\n", "is empty"},
		{"too short", "abc1234\n", "fewer than 8"},
		{"too long", strings.Repeat("x", maxToken+1), "more than"},
		{"the header's value", "Bearer " + canary, "without a `Bearer`"},
		{"two lines", canary + "\n" + canary, "line break"},
		{"a space behind it", canary + " \n", "space"},
		{"a tab", canary + "\tx", "space"},
		{"a NUL", canary + "\x00", "beyond ASCII"},
		{"a header of its own", canary + "\r\nX-Admin: 1", "line break"},
		{"a byte order mark", "\ufeff" + canary, "beyond ASCII"},
		{"DEL", canary + "\x7f", "beyond ASCII"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newToken(c.text, "x")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the error tells the token: %v", err)
			}
		})
	}
}

func TestNewTokenTakesALineEnd(t *testing.T) {
	for _, end := range []string{"", "\n", "\r\n"} {
		tok, err := newToken(canary+end, "x")
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.forms().bare.Get("Authorization"); got != "Bearer "+canary {
			t.Errorf("got %q", got)
		}
	}
}

// Whoever prints what holds the token, in whatever way, must not see it: the
// server's `trace` option alone logs whole handlers.
func TestTokenNeverPrints(t *testing.T) {
	tok, err := newToken(canary, "x")
	if err != nil {
		t.Fatal(err)
	}
	f := &Forwarder{master: &master{}}
	f.master.current.Store(tok)
	held := struct {
		Tok  *token
		toks []*token
		val  token
		any  any
	}{tok, []*token{tok}, *tok, *tok}
	resp := &Response{}
	resp.body.scanned = newScanned(io.NopCloser(strings.NewReader("x")), tok)
	defer resp.body.release()
	for _, v := range []any{tok, *tok, f.master, f, resp, *resp, held, &held, []any{tok}, map[string]any{"t": tok}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			leakFree(t, fmt.Sprintf(verb, v))
		}
		text, err := json.Marshal(v)
		if err != nil && len(text) > 0 {
			t.Fatal(err)
		}
		leakFree(t, string(text))
		enc := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
		line, err := enc.EncodeEntry(zapcore.Entry{}, []zapcore.Field{
			zap.Any("a", v), zap.Reflect("r", v),
		})
		if err != nil {
			t.Fatal(err)
		}
		leakFree(t, line.String())
	}
	if got := fmt.Sprint(tok); got != redacted {
		t.Errorf("got %q", got)
	}
}

func leakFree(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) || strings.Contains(text, fmt.Sprintf("%X", canary)) {
		t.Errorf("the token is in %.300s", text)
	}
}

func TestReloadKeepsTheTokenWhereThereIsNone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	core, logs := observer.New(zapcore.InfoLevel)
	swaps := 0
	m := &master{source: source{path: path}, logger: zap.New(core), loaded: func(time.Time) { swaps++ }}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first-token")
	if err := m.load(); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "\n", "short", "not a token"} {
		write(bad)
		m.reload()
		m.reload()
		if got := m.current.Load().forms().bearer; got != "Bearer first-token" {
			t.Fatalf("after %q: %q", bad, got)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	m.reload()
	m.reload()
	// "" and a lone line end fail in the same words.
	if got := logs.FilterLevelExact(zapcore.ErrorLevel).Len(); got != 4 {
		t.Errorf("%d errors logged, want one for each kind of failure: %v", got, logs.All())
	}
	write("second-token\n")
	m.reload()
	m.reload()
	if got := m.current.Load().forms().bearer; got != "Bearer second-token" || swaps != 2 {
		t.Errorf("%q after %d loads", got, swaps)
	}
}

// A link that leads out of the watched directory changes unseen: the poll
// finds it.
func TestWatchPolls(t *testing.T) {
	watched, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(elsewhere, []byte("first-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(watched, "token")
	if err := os.Symlink(elsewhere, path); err != nil {
		t.Fatal(err)
	}
	loaded := make(chan time.Time, 8)
	m := &master{source: source{path: path}, logger: zap.NewNop(), loaded: func(at time.Time) { loaded <- at }}
	if err := m.load(); err != nil {
		t.Fatal(err)
	}
	<-loaded
	ctx, cancel := context.WithCancel(t.Context())
	poll, done := make(chan time.Time), make(chan struct{})
	go func() {
		defer close(done)
		m.watch(ctx, poll)
	}()
	poll <- time.Time{} // taken once the watch is there
	if err := os.WriteFile(elsewhere, []byte("second-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	poll <- time.Time{}
	<-loaded
	cancel()
	<-done
	if got := m.current.Load().forms().bearer; got != "Bearer second-token" {
		t.Errorf("got %q", got)
	}
}

// All requests share the headers, so a transport that changed one would
// change them all.
func assertHeadersIntact(t *testing.T, f *Forwarder) {
	t.Helper()
	have := f.master.current.Load().forms()
	fresh, err := newToken(strings.TrimPrefix(have.bearer, "Bearer "), f.master.userAgent)
	if err != nil {
		t.Fatal(err)
	}
	want := fresh.forms()
	if diff := cmp.Diff([]http.Header{want.bare, want.withBody}, []http.Header{have.bare, have.withBody}); diff != "" {
		t.Errorf("the shared headers changed (-want +got):\n%s", diff)
	}
}
