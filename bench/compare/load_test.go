package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A contender that refuses, or answers something else, is fast and would win.
func TestGenerateRejectsAnswersThatAreNotTheUpstreams(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
		fails   string // in the error, "" if none
	}{
		{"the upstream's", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, member) }, ""},
		{"in pieces", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, member[:9])
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, member[9:])
		}, ""},
		{"a refusal", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "403"},
		{"another body", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, member[1:]) }, "got 200 OK"},
		{"an end", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			address := server.Listener.Addr().String()
			in, err := json.Marshal(job{
				Address: address, Request: request(address, "key"), Want: []byte(member),
				Conns: 2, Length: 20 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err = generate(bytes.NewReader(in), &out)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("error %v, want one with %q", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var s sample
			if err := json.Unmarshal(out.Bytes(), &s); err != nil {
				t.Fatal(err)
			}
			if len(s.Took) < 2 || s.Elapsed <= 0 {
				t.Errorf("%d exchanges in %v", len(s.Took), s.Elapsed)
			}
		})
	}
}

// The upstream must not outlive whoever started it, however that ends.
func TestUpstreamEndsWithItsInput(t *testing.T) {
	in, end := io.Pipe()
	said, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- serveUpstream(in, out) }()
	address := make([]byte, 64)
	n, err := said.Read(address)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	resp, err := http.Get("http://" + strings.TrimSpace(string(address[:n])))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != member || resp.ContentLength != int64(len(member)) {
		t.Errorf("got %q, %v", body, err)
	}
	_ = end.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAuditedCountsRolledFilesToo(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"audit.jsonl": `{"phase":"decided"}{"phase":"ended"}{"kind":"segment"}`, "audit-2026-01-31.jsonl": `{"phase":"decided"}`} {
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
