package integration_test

import (
	"bufio"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// record is one line of the audit log.
type record struct {
	Gateway        string   `json:"gateway"`
	UUID           string   `json:"uuid"`
	Phase          string   `json:"phase"`
	Team           string   `json:"team"`
	Credential     string   `json:"credential"`
	Operator       string   `json:"operator"`
	ClientIP       string   `json:"client_ip"`
	Operation      string   `json:"operation"`
	Change         string   `json:"change"`
	Scope          string   `json:"scope"`
	Decision       string   `json:"decision"`
	Reason         string   `json:"reason"`
	Status         int      `json:"status"`
	UpstreamStatus int      `json:"upstream_status"`
	SharedWith     string   `json:"shared_with"`
	Size           int64    `json:"size"`
	TokenID        string   `json:"token_id"`
	Requested      []string `json:"requested_scopes"`
	Granted        []string `json:"granted_scopes"`
	ExpiresAt      string   `json:"expires_at"`
	AllowedIPs     []string `json:"allowed_ips"`
	Clamped        []string `json:"clamped"`
	Complete       bool     `json:"complete"`
	Suppressed     int      `json:"suppressed"`
}

// parseRecords reads an audit log; a line that is no record fails the test.
func parseRecords(t *testing.T, text string) []record {
	t.Helper()
	var list []record
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" || strings.Contains(line, `,"kind":"`) { // the chain's own
			continue
		}
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("the audit log holds a line that is no record: %v\n%s", err, line)
		}
		list = append(list, r)
	}
	return list
}

// records returns the audit log, audit.jsonl.
func (g *gateway) records(t *testing.T) []record {
	t.Helper()
	return parseRecords(t, g.readFile(t, "audit.jsonl"))
}

// recordOf waits for the record of a phase of a decision.
func (g *gateway) recordOf(t *testing.T, decision, phase string) record {
	t.Helper()
	var found record
	await(t, "the record `"+phase+"` of "+decision, func() bool {
		list := g.records(t)
		i := slices.IndexFunc(list, func(r record) bool { return r.UUID == decision && r.Phase == phase })
		if i >= 0 {
			found = list[i]
		}
		return i >= 0
	})
	return found
}

// series are the values of metrics by name and labels, as they are printed,
// such as scopegate_requests_in_flight{gateway="default"}.
type series map[string]float64

// metrics reads the gateway's own metrics at the admin endpoint.
func (g *gateway) metrics(t *testing.T) series {
	t.Helper()
	status, text := g.ask(t, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("metrics: %d", status)
	}
	s := series{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || !strings.HasPrefix(line, "scopegate_") {
			continue
		}
		value, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			t.Fatalf("metrics: %q: %v", line, err)
		}
		s[line[:i]] = value
	}
	return s
}

// of returns the series of one family.
func (s series) of(family string) series {
	found := maps.Clone(s)
	maps.DeleteFunc(found, func(name string, _ float64) bool { return !strings.HasPrefix(name, family+"{") })
	return found
}

// naming returns the series in whose labels a text stands.
func (s series) naming(text string) series {
	found := maps.Clone(s)
	maps.DeleteFunc(found, func(name string, _ float64) bool { return !strings.Contains(name, text) })
	return found
}
