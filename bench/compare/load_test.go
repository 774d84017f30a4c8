package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// put has the generator do a job.
func put(t *testing.T, j job) (s sample, err error) {
	t.Helper()
	in, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := generate(bytes.NewReader(in), &out); err != nil {
		return s, err
	}
	return s, json.Unmarshal(out.Bytes(), &s)
}

// A contender that refuses, or answers something else, is fast and would win.
func TestGenerateRejectsAnswersThatAreNotWanted(t *testing.T) {
	exact, anyBody := answerOf(http.StatusOK, []byte(member)), answer{Status: http.StatusOK, Length: -1}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    answer
		fails   string // in the error, "" if none
	}{
		{"the upstream's", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, member) }, exact, ""},
		{"in pieces", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, member[:9])
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, member[9:])
		}, exact, ""},
		{"one of many", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "this time") }, anyBody, ""},
		{"a refusal", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, exact, "403"},
		{"a refusal where the body may be any", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, anyBody, "403"},
		{"less", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, member[1:]) }, exact, "got status 200"},
		{"as much of something else", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.ToUpper(member)) }, exact, "other bytes"},
		{"an end", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, exact, "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, http2 := range []bool{false, true} {
				if http2 && tt.fails == "EOF" {
					continue // a stream ends with an error of its own
				}
				server := unstarted(tt.handler)
				j := job{Request: request{http.MethodGet, memberPath, "key", ""}, Want: tt.want, Conns: 2, Length: 20 * time.Millisecond}
				if server.EnableHTTP2 = http2; http2 {
					server.TLS = serverTLS(t, &j)
					server.StartTLS()
				} else {
					server.Start()
				}
				defer server.Close()
				j.Address = server.Listener.Addr().String()
				s, err := put(t, j)
				if tt.fails != "" {
					if err == nil || !strings.Contains(err.Error(), tt.fails) {
						t.Errorf("HTTP/2 %v: error %v, want one with %q", http2, err, tt.fails)
					}
					continue
				}
				if err != nil || len(s.Took) < 2 || s.Elapsed <= 0 {
					t.Errorf("HTTP/2 %v: %d exchanges in %v, %v", http2, len(s.Took), s.Elapsed, err)
				}
			}
		})
	}
}

// What is sent is what the contender is to judge, by either protocol.
func TestGenerateSendsTheRequest(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		var bad string
		server := unstarted(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			got := strings.Join([]string{r.Method, r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), string(body)}, " ")
			if got != `POST /api/v1/token Bearer key application/json {"a":1}` || (r.ProtoMajor == 2) != http2 {
				bad = r.Proto + " " + got
			}
			w.WriteHeader(http.StatusCreated)
		}))
		j := job{Request: request{http.MethodPost, tokenPath, "key", `{"a":1}`}, Want: answer{Status: http.StatusCreated, Length: -1}, Conns: 1, Length: time.Millisecond}
		if server.EnableHTTP2 = http2; http2 {
			server.TLS = serverTLS(t, &j)
			server.StartTLS()
		} else {
			server.Start()
		}
		j.Address = server.Listener.Addr().String()
		_, err := put(t, j)
		server.Close()
		if err != nil || bad != "" {
			t.Errorf("HTTP/2 %v: %v, got %s", http2, err, bad)
		}
	}
}

// slow is a caller whose exchanges take these times, one after another.
type slow struct{ takes []time.Duration }

func (s *slow) exchange(taker) error {
	if len(s.takes) > 0 {
		time.Sleep(s.takes[0])
		s.takes = s.takes[1:]
	}
	return nil
}

func (s *slow) close() {}

// A proxy that stops for a while keeps everybody waiting whose turn has come,
// though a caller that waits sends nothing meanwhile.
func TestDriveCountsTheWaitOfWhoIsDue(t *testing.T) {
	tests := []struct {
		name string
		rate int
		want []time.Duration
	}{
		{"at a fixed rate", 100, []time.Duration{35 * time.Millisecond, 25 * time.Millisecond, 15 * time.Millisecond, 5 * time.Millisecond, 0, 0}},
		{"as many as can be", 0, []time.Duration{35 * time.Millisecond, 25 * time.Millisecond}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &slow{takes: []time.Duration{35 * time.Millisecond}}
				if tt.rate == 0 {
					c.takes = append(c.takes, 25*time.Millisecond)
				}
				got, err := job{Conns: 1, Rate: tt.rate, Length: 60 * time.Millisecond}.drive(c, 0, time.Now())
				if err != nil || len(got) != len(tt.want) {
					t.Fatalf("%v, %v", got, err)
				}
				for i := range got {
					if got[i] != tt.want[i] {
						t.Errorf("%v, want %v", got, tt.want)
						break
					}
				}
			})
		})
	}
}

func TestDueSharesTheRate(t *testing.T) {
	j, started := job{Conns: 4, Rate: 1000}, time.Now()
	seen := map[time.Duration]bool{}
	for nth := range 4 {
		for done := range 3 {
			seen[j.due(nth, done, started).Sub(started)] = true
		}
	}
	for i := range 12 {
		if !seen[time.Duration(i)*time.Millisecond] {
			t.Errorf("nothing is due after %d ms", i)
		}
	}
}

// The upstream must not outlive whoever started it, however that ends.
func TestUpstreamEndsWithItsInput(t *testing.T) {
	cert, key, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	in, tell := io.Pipe()
	said, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- serveUpstream(in, out) }()
	u, err := meet(tell, said, listening{Cert: cert, Key: key, Master: master})
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range []job{{Address: u.plain}, {Address: u.secure, Roots: cert}} {
		j.Request, j.Want = request{http.MethodGet, memberPath, master, ""}, answerOf(http.StatusOK, []byte(member))
		j.Conns, j.Length = 1, time.Millisecond
		if _, err := put(t, j); err != nil {
			t.Errorf("%s: %v", j.Address, err)
		}
	}
	if n, err := u.ask("accepted"); n != 2 || err != nil {
		t.Errorf("%d connections, %v", n, err)
	}
	n, err := u.ask("list 3")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + u.plain + membersPath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var list []struct{ ID string }
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil || len(list) != 3 || resp.ContentLength != int64(n) {
		t.Errorf("list of %d in %d bytes, not %d; %v", len(list), resp.ContentLength, n, err)
	}
	_ = tell.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestUpstreamRejectsWhatItDoesNotKnow(t *testing.T) {
	cert, key, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	first, err := json.Marshal(listening{Cert: cert, Key: key, Master: master})
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]string{
		"nothing": "", "no JSON": "hello\n", "no certificate": "{}\n", "another word": string(first) + "\nsing\n",
	} {
		if err := serveUpstream(strings.NewReader(in), io.Discard); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAuditedCountsRolledFilesToo(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"audit.jsonl": `{"phase":"decided","team":"bench"}
{"phase":"decided","operator":"scopegate","note":"to reconcile"}
{"phase":"ended","operator":"scopegate","note":"to reconcile"}
{"phase":"ended","team":"bench"}
{"kind":"segment"}
`,
		"audit-2026-01-31.jsonl": `{"phase":"decided","team":"bench"}` + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := audited(dir); n != 3 || err != nil {
		t.Errorf("%d records, %v", n, err)
	}
	if _, err := audited(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there has no error")
	}
}

// The check of keys is the contender's price: without it, it would be a bare
// proxy.
func TestPlainProxyKnowsItsKeys(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Authorization"))
	}))
	defer api.Close()
	handler, err := plainProxy{Upstream: api.URL, Keys: map[string]string{"known": "team1"}, Master: master}.handler()
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]int{"Bearer known": http.StatusOK, "Bearer other": http.StatusUnauthorized, "known": http.StatusUnauthorized, "": http.StatusUnauthorized} {
		req := httptest.NewRequest(http.MethodGet, memberPath, http.NoBody)
		req.Header.Set("Authorization", header)
		got := httptest.NewRecorder()
		handler.ServeHTTP(got, req)
		if got.Code != want {
			t.Errorf("%q: status %d, want %d", header, got.Code, want)
		}
		if want == http.StatusOK && got.Body.String() != "Bearer "+master {
			t.Errorf("upstream got %q", got.Body)
		}
	}
}

// unstarted is a server that does not tell of connections that clients give up.
func unstarted(handler http.Handler) *httptest.Server {
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	return server
}

// serverTLS makes a certificate that the job trusts.
func serverTLS(t *testing.T, j *job) *tls.Config {
	t.Helper()
	cert, key, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	j.Roots = cert
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
}
