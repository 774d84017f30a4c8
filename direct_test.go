package scopegate

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/store"
)

// offline is a configuration without an admin endpoint, for the store of a
// gateway that runs.
func offline(t *testing.T, s *shell, option string) (config, log string) {
	t.Helper()
	dir := t.TempDir()
	log = filepath.Join(dir, "audit.cli.jsonl")
	config = filepath.Join(dir, "Caddyfile")
	text := `{
	admin off
}
http://localhost {
	scopegate {
		upstream http://127.0.0.1:1 {
			master_token {env.SCOPEGATE_TEST_MASTER}
		}
		` + option + `
		team red {
			scopes members.read
		}
		audit {
			output file ` + filepath.Join(dir, "audit.jsonl") + `
		}
	}
}
`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.address = "" // --config alone says where
	return config, log
}

// changesIn reads what a log of commands holds, as change/phase.
func changesIn(t *testing.T, log string) (list []string) {
	t.Helper()
	for line := range strings.Lines(string(readFile(t, log))) {
		if strings.Contains(line, `,"kind":"`) {
			continue // the chain's own
		}
		var rec struct{ Change, Phase, Operator string }
		if err := json.Unmarshal([]byte(line), &rec); err != nil || rec.Operator != "bob" {
			t.Errorf("%v: %s", err, line)
		}
		list = append(list, rec.Change+"/"+rec.Phase)
	}
	return list
}

// With the admin endpoint off, a change goes into the store itself, is recorded
// first, and reaches a gateway that runs.
func TestKeyCommandsWithoutAnAdminEndpoint(t *testing.T) {
	s := newShell(t, "scopes members.read")
	config, log := offline(t, s, "")
	out, told, err := s.run(t, "", "key", "create", "--team", "red", "--name", "ci", "--config", config, "--as", "bob")
	if err != nil || !strings.Contains(told, "turns the admin endpoint off") || !strings.Contains(told, log) {
		t.Fatalf("%v %s", err, told)
	}
	key, err := credential.Parse(strings.TrimSuffix(out, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	s.use(t, key.Reveal(), "")
	// The gateway has it in memory now, and must hear of its end.
	if _, told, err := s.run(t, "", "key", "revoke", key.ID(), "--config", config, "--as", "bob"); err != nil {
		t.Fatalf("%v %s", err, told)
	}
	until(t, "the gateway to hear of it", func() bool {
		rec := s.do(t, "GET", aMember, "")
		return rec.Code == 401 && reasonOf(t, rec) == "credential_revoked"
	})
	want := "create/decided create/ended revoke/decided revoke/ended"
	if got := strings.Join(changesIn(t, log), " "); got != want {
		t.Errorf("recorded %s, want %s", got, want)
	}
	if info, err := os.Stat(log); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log: %v %v", info, err)
	}
	if strings.Contains(string(readFile(t, log)), key.Reveal()) {
		t.Error("the log holds the key")
	}
	if list, _, err := s.room.rows.Replicas(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("a command counts as a replica: %v %v", list, err)
	}
}

// What cannot be recorded is not done, without a gateway too.
func TestDirectChangeThatCannotBeRecorded(t *testing.T) {
	s := newShell(t, "scopes members.read")
	row := s.create(t)
	config, _ := offline(t, s, "")
	found, err := (&configFlags{file: config}).one()
	if err != nil {
		t.Fatal(err)
	}
	room, err := found.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer room.close()
	if err := room.log.Close(); err != nil {
		t.Fatal(err)
	}
	if room.log, err = audit.New(audit.Options{Durable: audit.NewSink(failing{})}); err != nil {
		t.Fatal(err)
	}
	if _, err := room.change(func(r *credential.Registry) (store.Credential, error) {
		return r.Revoke(t.Context(), row.ID, credential.Edit{By: "bob"})
	}); err == nil {
		t.Error("revoked without a record")
	}
	if _, err := room.restored(t.Context(), "x", "bob"); err == nil {
		t.Error("suspended without a record")
	}
	s.expect(t, "")
}

func TestDirectRefuses(t *testing.T) {
	for _, tt := range []struct{ name, option, want string }{
		{"no store there", "store sqlite " + filepath.Join(t.TempDir(), "none.db"), "there is no "},
		{"store none", "store none", "no store"},
		{"no address", "store postgres {env.SCOPEGATE_TEST_NOT_SET}", "SCOPEGATE_TEST_NOT_SET"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newShell(t, "scopes members.read")
			config, _ := offline(t, s, tt.option)
			_, told, err := s.run(t, "", "key", "list", "--config", config)
			if err == nil || !strings.Contains(told+err.Error(), tt.want) {
				t.Errorf("%v, want %q\n%s", err, tt.want, told)
			}
		})
	}
}

// Whoever has another data directory than the user before would go on in the log
// under another key, which is what a forged log looks like, for good.
func TestDirectKeepsToTheKeyOfItsLog(t *testing.T) {
	s := newShell(t, "scopes members.read")
	config, log := offline(t, s, "")
	if _, told, err := s.run(t, "", "key", "list", "--config", config); err != nil {
		t.Fatalf("%v %s", err, told)
	}
	if err := os.Remove(auditKeyFile(log)); err != nil {
		t.Fatal(err)
	}
	before := readFile(t, log)
	_, told, err := s.run(t, "", "key", "list", "--config", config)
	if err == nil || !strings.Contains(told+err.Error(), "is not at "+auditKeyFile(log)) {
		t.Errorf("without the key: %v %s", err, told)
	}
	if after := readFile(t, log); !bytes.Equal(before, after) {
		t.Errorf("the log went on:\n%s", after[len(before):])
	}
}

func TestStoreBackupAndRestored(t *testing.T) {
	s := newShell(t, "scopes members.read")
	row := s.create(t)
	s.expect(t, "")
	config, _ := offline(t, s, "")
	backup := filepath.Join(t.TempDir(), "backup.db")
	if out, err := run(t, "", "store", "backup", backup, "--config", config); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup: %v %v", info, err)
	}
	if _, err := run(t, "", "store", "backup", backup, "--config", config); err == nil {
		t.Error("a file was overwritten")
	}
	if err := s.edit(t, row.ID, credential.KindRevoke); err != nil {
		t.Fatal(err)
	}

	if out, err := run(t, "", "store", "restored", "--config", config); err == nil || !strings.Contains(err.Error(), "stop every gateway") {
		t.Errorf("while a gateway serves from the store: %v %s", err, out)
	}

	// The backup knows nothing of the revocation. Until somebody says so, its
	// credential must not work.
	config, log := offline(t, s, "store sqlite "+backup)
	out, err := run(t, "", "store", "restored", "--config", config, "--as", "bob", "--json")
	if err != nil || !strings.Contains(out, `"suspended": 1`) {
		t.Fatalf("%v %s", err, out)
	}
	if got := strings.Join(changesIn(t, log), " "); got != "restored/decided restored/ended" {
		t.Errorf("recorded %s", got)
	}
	out, _, err = s.run(t, "", "key", "show", row.ID, "--config", config, "--json")
	var c credentialView
	if jsonErr := json.Unmarshal([]byte(out), &c); err != nil || jsonErr != nil || c.State != "suspended" || c.Note == "" {
		t.Errorf("%v %v %s", err, jsonErr, out)
	}
	config, _ = offline(t, s, "store postgres {env.SCOPEGATE_TEST_NOT_SET}")
	if _, err := run(t, "", "store", "backup", backup+"2", "--config", config); err == nil || !strings.Contains(err.Error(), "pg_dump") {
		t.Errorf("PostgreSQL: %v", err)
	}
}

// A key may be pasted into any field; answers end up in terminals and logs.
func TestAdminRepeatsNoKey(t *testing.T) {
	d := newDesk(t, "scopes members.read")
	key := credential.Generate().Reveal()
	for _, field := range []string{"team", "name", "scopes", "allowed_ips", "not_before", "expires_at", "ttl", "note", key} {
		for _, value := range []string{`"` + key + `"`, `["` + key + `"]`} {
			body := `{"` + field + `":` + value + `}`
			if rec := d.ask(t, "POST", "default/credentials", body); rec.Code/100 != 4 || strings.Contains(rec.Body.String(), key) {
				t.Errorf("%s: %d %s", field, rec.Code, rec.Body)
			}
		}
	}
}
