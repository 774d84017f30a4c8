package scopegate_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scopegate/scopegate"
	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/metrics"
	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/upstream"
)

// documents are all pages of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, found...)
	}
	return list
}

var heading = regexp.MustCompile(`(?m)^#+ (.*)$`)

// section returns what stands under a heading, up to the next one.
func section(t *testing.T, text, title string) string {
	t.Helper()
	for _, at := range heading.FindAllStringSubmatchIndex(text, -1) {
		if text[at[2]:at[3]] == title {
			rest := text[at[1]:]
			if next := heading.FindStringIndex(rest); next != nil {
				rest = rest[:next[0]]
			}
			return rest
		}
	}
	t.Errorf("no heading %q", title)
	return ""
}

// rows returns the tables of a text by the first cell of each row, which
// stands in backquotes.
func rows(text string) map[string][]string {
	list := map[string][]string{}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if name, ok := strings.CutPrefix(strings.TrimSpace(cells[0]), "`"); ok && strings.HasPrefix(line, "|") {
			list[strings.TrimSuffix(name, "`")] = cells[1:]
		}
	}
	return list
}

// The type of a problem links to the section of its reason, and operators
// mend by what that says.
func TestReasonsAreDocumented(t *testing.T) {
	text := readText(t, "docs/reasons.md")
	var have, want []string
	for _, m := range regexp.MustCompile(`(?m)^### (.*)$`).FindAllStringSubmatch(text, -1) {
		have = append(have, m[1])
	}
	for _, r := range policy.Reasons() {
		want = append(want, r.String())
		said := section(t, text, r.String())
		status := fmt.Sprintf("\nStatus %d, refused by the gateway.\n", scopegate.StatusOf(r))
		switch {
		case r == policy.Allowed:
			status = "\nStatus as GoodAccess answers.\n"
		case !r.Denies():
			status = fmt.Sprintf("\nStatus %d, permitted by the gateway; it failed later.\n", scopegate.StatusOf(r))
		}
		if !strings.Contains(said, status) || !strings.Contains(said, "\n**Mend:** ") {
			t.Errorf("%s: want %q and a mend, in\n%s", r, status, said)
		}
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("sections of docs/reasons.md (-want +got):\n%s", diff)
	}
}

// families are all metrics that there are, by name, with type and labels.
func families(t *testing.T) map[string]string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	m, err := metrics.New(reg, "docs", []string{"billing"}, []string{"listMembers"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.Decided("billing", "listMembers", policy.Allowed, 2, time.Millisecond)
	m.Upstream("listMembers", time.Millisecond)
	m.Coalesced("billing")
	m.Mint("billing", metrics.Minted)
	m.MasterLoaded(time.Now())
	m.MasterExpires(time.Now())
	m.RetiredKeyUsed("billing")
	m.AuditAnchored(time.Now(), nil)
	m.WouldDeny("billing", "listMembers", policy.InsufficientScope)
	m.MintRead([]string{"name"})
	s := metrics.NewStore("docs")
	defer s.Close()
	s.Synced(time.Now())
	s.Skew(0)
	s.Replicas(1)
	s.Ledger([]metrics.LedgerCount{{Team: "billing", State: "live", N: 1}}, 0, 0)
	s.Reconciliation(time.Now(), map[string]int{"ours": 1}, false)
	gathered, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range gathered {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		all[f.GetName()] = strings.ToLower(f.GetType().String()) + " " + strings.Join(labels, " ")
	}
	return all
}

func TestMetricsAreDocumented(t *testing.T) {
	have := map[string]string{}
	for name, cells := range rows(section(t, readText(t, "docs/metrics.md"), "Families")) {
		if strings.HasPrefix(name, "scopegate_") {
			labels := strings.Fields(strings.ReplaceAll(cells[1], "`", ""))
			slices.Sort(labels)
			have[name] = cells[0] + " " + strings.Join(labels, " ")
		}
	}
	if diff := cmp.Diff(families(t), have); diff != "" {
		t.Errorf("families in docs/metrics.md (-want +got):\n%s", diff)
	}
}

// An alert on a misspelt name is one that never comes.
func TestDocumentsNameOnlyWhatThereIs(t *testing.T) {
	known, reasons := families(t), map[string]bool{}
	for _, r := range policy.Reasons() {
		reasons[r.String()] = true
	}
	tests := testNames(t)
	for _, file := range documents(t) {
		text := readText(t, file)
		for _, name := range regexp.MustCompile(`\bscopegate_[a-z_]+`).FindAllString(text, -1) {
			if known[name] == "" {
				t.Errorf("%s: no metric %s", file, name)
			}
		}
		for _, m := range regexp.MustCompile(`\breason=\\?"([a-z_]+)`).FindAllStringSubmatch(text, -1) {
			if !reasons[m[1]] {
				t.Errorf("%s: no reason %s", file, m[1])
			}
		}
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)`").FindAllStringSubmatch(text, -1) {
			if !tests[m[1]] {
				t.Errorf("%s: no test %s", file, m[1])
			}
		}
	}
}

// testNames are the names of all tests of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w*)\(`)
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, m := range function.FindAllStringSubmatch(readText(t, path), -1) {
			names[m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestAuditFieldsAreDocumented(t *testing.T) {
	var r audit.Record
	v := reflect.ValueOf(&r).Elem()
	for _, f := range v.Fields() {
		switch f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{"x"}))
		case reflect.Bool:
			f.SetBool(true)
		default:
			f.SetInt(1)
		}
	}
	r.Phase = audit.Ended
	var line strings.Builder
	log, err := audit.New(audit.Options{Gateway: "default", Durable: audit.NewSink(&line)})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Write(&r); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	written := map[string]any{}
	if err := json.Unmarshal([]byte(line.String()), &written); err != nil {
		t.Fatal(err)
	}
	documented := rows(section(t, readText(t, "docs/audit.md"), "Fields"))
	for _, phase := range []audit.Phase{audit.Decided, audit.Ended, audit.Lost, audit.Summary, audit.Probe} {
		if documented[string(phase)] == nil {
			t.Errorf("docs/audit.md does not tell of phase %s", phase)
		}
		delete(documented, string(phase))
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(written)), slices.Sorted(maps.Keys(documented))); diff != "" {
		t.Errorf("fields in docs/audit.md (-want +got):\n%s", diff)
	}
}

func TestConfigurationIsDocumented(t *testing.T) {
	text := readText(t, "docs/caddyfile.md")
	if !strings.Contains(text, "\n```text\n"+syntax(t)+"```\n") {
		t.Errorf("docs/caddyfile.md does not have the syntax as it stands in caddyfile.go:\n%s", syntax(t))
	}
	for title, of := range map[string]reflect.Type{
		"Gateway": reflect.TypeFor[scopegate.Gateway](), "Upstream": reflect.TypeFor[upstream.Config](),
		"Operation": reflect.TypeFor[scopegate.Operation](), "Team": reflect.TypeFor[scopegate.Team](),
		"Mint": reflect.TypeFor[scopegate.Mint](), "Credential": reflect.TypeFor[scopegate.Credential](),
		"Grant": reflect.TypeFor[scopegate.Grant](), "RateLimit": reflect.TypeFor[scopegate.RateLimit](),
		"Audit": reflect.TypeFor[scopegate.Audit](), "Checkpoint": reflect.TypeFor[scopegate.Checkpoint](),
		"Anchor": reflect.TypeFor[scopegate.Anchor](), "Store": reflect.TypeFor[scopegate.Store](),
	} {
		want := map[string]bool{}
		for f := range of.Fields() {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
				want[name] = true
			}
		}
		have := map[string]bool{}
		for name := range rows(section(t, text, title)) {
			have[name] = true
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("fields of %s in docs/caddyfile.md (-want +got):\n%s", title, diff)
		}
	}
	// Every word of the Caddyfile is explained, not only listed.
	for _, m := range regexp.MustCompile(`(?m)^ +([a-z_]+) `).FindAllStringSubmatch(syntax(t), -1) {
		_, prose, _ := strings.Cut(text, "```\n")
		if !regexp.MustCompile("`" + m[1] + "\\b|## " + m[1] + "\n").MatchString(prose) {
			t.Errorf("docs/caddyfile.md does not explain %s", m[1])
		}
	}
}

// syntax is the Caddyfile's syntax as the code's own comment has it.
func syntax(t *testing.T) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "caddyfile.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == "UnmarshalCaddyfile" {
			for line := range strings.Lines(f.Doc.Text()) {
				if code, ok := strings.CutPrefix(line, "\t"); ok {
					lines.WriteString(code)
				}
			}
		}
	}
	return lines.String()
}

// TestDocumentsShowWhatWorks checks the blocks of all pages but the README,
// whose own are executed.
func TestDocumentsShowWhatWorks(t *testing.T) {
	for _, file := range documents(t) {
		if file == "README.md" {
			continue
		}
		for _, b := range blocksOf(t, file) {
			t.Run(fmt.Sprintf("%s line %d", filepath.Base(file), b.line), func(t *testing.T) {
				switch b.lang {
				case "text", "yaml", "dockerfile":
				case "sh":
					if out, err := exec.CommandContext(t.Context(), "sh", "-nc", b.text).CombinedOutput(); err != nil {
						t.Errorf("%v\n%s", err, out)
					}
				case "caddyfile":
					validateCaddyfile(t, b.text)
				case "json":
					checkJSON(t, b.text)
					if strings.Contains(b.text, `"handler"`) {
						validateHandler(t, b.text)
					}
				default:
					t.Errorf("no way to check a block of language %q", b.lang)
				}
			})
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	for _, file := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(readText(t, file), -1) {
			if strings.HasPrefix(m[1], "https://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", file, err)
			} else if anchor != "" && !slices.Contains(anchors(t, target), anchor) {
				t.Errorf("%s: %s has no #%s", file, target, anchor)
			}
		}
	}
}

// anchors are the fragments by which GitHub makes headings reachable.
func anchors(t *testing.T, file string) []string {
	t.Helper()
	var list []string
	seen := map[string]int{}
	for _, m := range heading.FindAllStringSubmatch(readText(t, file), -1) {
		slug := strings.ReplaceAll(regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")
		if n := seen[slug]; n > 0 {
			list = append(list, fmt.Sprintf("%s-%d", slug, n))
		} else {
			list = append(list, slug)
		}
		seen[slug]++
	}
	return list
}
