package scopegate

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/logging"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/audit/logfile"
)

// What a gateway itself has written answers questions, and its own
// configuration decides each request again as it was decided.
func TestAuditQuestionsToAGatewaysLog(t *testing.T) {
	const team = "scopes token.* members.read members.read-all\n" + `mint {
		scopes members.read
		allowed_ips 203.0.113.0/24
	}`
	w := newWorld(t, team)
	w.mint(t)
	for path, want := range map[string]int{"/api/v1/members": 200, "/api/v1/groups": 403, "/api/v1/nothing": 403, "/api/v1/test-connection": 200} {
		if rec := w.do(t, "GET", path, ""); rec.Code != want {
			t.Fatalf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
	config := write(t, "Caddyfile", `http://localhost {
	scopegate {
		upstream https://integration.goodaccess.com {
			master_token {env.NONE}
		}
		team red {
			`+team+`
			credential one {
				hash `+w.key.ID()+`:`+w.key.Hash().String()+`
			}
		}
	}
}
`)
	out, errs, code := askLog(t, "", "search", w.log, "--operation", "listMembers", "--json")
	if strings.Count(out, "\n") != 2 || code != 0 || errs != "" {
		t.Errorf("search: %d\n%s%s", code, out, errs)
	}
	out, errs, code = askLog(t, "", "replay", "--config", config, w.log, "--json")
	var got struct{ Verdicts replayed }
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || errs != "" {
		t.Fatalf("replay: %d %v\n%s%s", code, err, out, errs)
	}
	if v := got.Verdicts; v.Judged != 4 || v.Unchanged != 4 || v.Unjudged[gapPath] != 1 || len(v.Unjudged) != 1 {
		t.Errorf("replay: %+v", v)
	}
	out, errs, code = askLog(t, "", "learn", "--team", "red", "--config", config, w.log, "--json")
	var learned lesson
	if err := json.Unmarshal([]byte(out), &learned); err != nil || code != 0 || len(learned.Minted) == 0 || learned.Used["members.read-all"].Count != 1 {
		t.Errorf("learn: %d %v\n%s%s", code, err, out, errs)
	}
}

// The writer compresses nothing itself: it does not wait for the disk.
func TestPackingIsTakenFromTheWriter(t *testing.T) {
	no := false
	for _, c := range []struct {
		writer logging.FileWriter
		want   audit.Packing
	}{
		{logging.FileWriter{}, audit.PackGzip},
		{logging.FileWriter{RollCompress: &no}, audit.PackNone},
		{logging.FileWriter{RollCompression: " ZSTD ", RollCompress: &no}, audit.PackZstd},
		{logging.FileWriter{RollCompression: "none"}, audit.PackNone},
		{logging.FileWriter{RollCompression: "xz"}, ""},
	} {
		got, err := packing(&c.writer)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%+v: %q, %v", c.writer, got, err)
		}
		if err == nil && c.writer.RollCompression != "none" {
			t.Errorf("the writer compresses, too: %+v", c.writer)
		}
	}
}

// What is no file is never rolled. A gateway that runs as root would take
// /dev/null from the whole machine, which is why this one has a link to it.
func TestDevicesAreNotRolled(t *testing.T) {
	link := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.Symlink(os.DevNull, link); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SCOPEGATE_TEST_MASTER", "a-master-token-of-tests")
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	g := parse(t, `scopegate {
		upstream http://127.0.0.1:9 {
			master_token {env.SCOPEGATE_TEST_MASTER}
		}
		store none
		audit {
			output file `+link+` {
				roll_size 1MiB
			}
		}
	}`)
	ctx, err := caddy.ProvisionContext(&caddy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	r := allowed("red", "listMembers", "members.read-all")
	r.AllowedIPs = slices.Repeat([]string{"203.0.113.10"}, 1000)
	for range 200 { // of 15 KB each
		if err := g.log.Write(&r); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(link); err != nil || info.Mode().IsRegular() {
		t.Errorf("it was rolled: %v", err)
	}
}

// Caddy's own writer rolls the log under changes that come together: each is
// recorded once, nothing is taken for a log that somebody has moved, and the
// chain goes on over all files.
func TestChangesAreRecordedOnceWhileTheWriterRolls(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	keys, err := audit.LoadKeys(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, durability := range []audit.Durability{audit.Changes, audit.Full} {
		writer := logging.FileWriter{Filename: path, RollSizeMB: 1, RollCompression: "none"}
		keepAll(&writer)
		sink, err := (&Audit{Durability: durability}).openSink(path, keys, writer.OpenWriter, audit.PackZstd)
		if err != nil {
			t.Fatal(err)
		}
		log, err := audit.New(audit.Options{Gateway: "default", Durable: sink})
		if err != nil {
			t.Fatal(err)
		}
		var writing sync.WaitGroup
		for range 8 {
			writing.Go(func() {
				r := allowed("red", "listMembers", "members.read-all")
				r.AllowedIPs = slices.Repeat([]string{"203.0.113.10"}, 1000)
				for i := range 40 {
					do := log.WriteChange
					if i%2 == 0 {
						do = log.Write
					}
					if err := do(&r); err != nil {
						t.Error(err)
					}
				}
			})
		}
		writing.Wait()
		if err := errors.Join(log.Close(), sink.Close()); err != nil {
			t.Fatal(err)
		}
	}
	out, told, code := askLog(t, "", "verify", "--key", keys.Public(), "--json", path)
	var got struct{ Report audit.Report }
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || got.Report.Records != 640 || got.Report.Reopened != 0 {
		t.Errorf("%d %v %s%s", code, err, out, told)
	}
	if rolled, err := logfile.Rolled(path); err != nil || len(rolled) < 8 {
		t.Errorf("rolled: %q, %v", rolled, err)
	}
}
