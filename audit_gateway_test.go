package scopegate

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/logging"

	"github.com/scopegate/scopegate/audit"
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
