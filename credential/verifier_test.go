package credential_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopegate/scopegate/credential"
)

func TestParseVerifier(t *testing.T) {
	for _, tt := range vectors {
		t.Run(tt.name, func(t *testing.T) {
			k, err := credential.Parse(tt.key)
			if err != nil {
				t.Fatal(err)
			}
			for _, hash := range []string{tt.hash, strings.ToUpper(tt.hash)} {
				v, err := credential.ParseVerifier(tt.id + ":" + hash)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(k.Verifier(), v); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestVerifierIsTextInJSON(t *testing.T) {
	line := vectors[0].id + ":" + vectors[0].hash
	in := []byte(`["` + line + `"]`)
	var list []credential.Verifier
	if err := json.Unmarshal(in, &list); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(list)
	if err != nil || string(out) != string(in) {
		t.Errorf("%s came back as %s, %v", in, out, err)
	}
	if err := json.Unmarshal([]byte(`["`+goodKey+`"]`), &list); err == nil || strings.Contains(err.Error(), goodKey[17:]) {
		t.Errorf("a key where a hash belongs: %v", err)
	}
}

// What stands in a configuration by mistake may be the key itself, or a part
// of it. Caddy logs the errors of a configuration.
func TestParseVerifierRejects(t *testing.T) {
	id, hash := vectors[0].id, vectors[0].hash
	tests := []struct{ name, text, mend string }{
		{"the key", goodKey, "scopegate key hash"},
		{"the key, escaped", strings.Replace(goodKey, "_", "%5f", 1), "take it out"},
		{"the key behind its id", id + ":" + goodKey, "take it out"},
		{"the key and its hash", goodKey + ":" + hash, "take it out"},
		{"the secret behind the id", id + ":" + goodKey[17:60], "64 hex digits"},
		{"nothing", "", "<id>:<sha256>"},
		{"the hash alone", hash, "<id>:<sha256>"},
		{"the id alone", id, "<id>:<sha256>"},
		{"no id", ":" + hash, "12 digits and letters"},
		{"the wrong way round", hash + ":" + id, "12 digits and letters"},
		{"a name for an id", "billing-team:" + hash, "12 digits and letters"},
		{"short hash", id + ":" + hash[1:], "64 hex digits"},
		{"long hash", id + ":" + hash + "0", "64 hex digits"},
		{"named algorithm", id + ":sha256:" + hash, "64 hex digits"},
		{"no hex digit", id + ":g" + hash[1:], "no hex digit"},
		{"space", id + ": " + hash[1:], "no hex digit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := credential.ParseVerifier(tt.text)
			if err == nil {
				t.Fatalf("gave %s", v)
			}
			if !strings.Contains(err.Error(), tt.mend) {
				t.Errorf("error %q does not say %q", err, tt.mend)
			}
			for _, part := range []string{goodKey[17:60], id, hash[1:]} {
				if strings.Contains(err.Error(), part) {
					t.Errorf("error %q repeats what was written", err)
				}
			}
		})
	}
}

// A verifier prints as it was read, but for the case of hex digits.
func FuzzParseVerifier(f *testing.F) {
	f.Add(vectors[0].id + ":" + vectors[0].hash)
	f.Add(goodKey)
	f.Fuzz(func(t *testing.T, text string) {
		v, err := credential.ParseVerifier(text)
		if err != nil {
			if len(text) > 20 && strings.Contains(err.Error(), text) {
				t.Fatalf("error %q repeats the text", err)
			}
			return
		}
		id, hash, _ := strings.Cut(text, ":")
		if got, want := v.String(), id+":"+strings.ToLower(hash); got != want {
			t.Fatalf("%q prints as %q", want, got)
		}
		if again, err := credential.ParseVerifier(v.String()); err != nil || again != v {
			t.Fatalf("%q does not read back: %v", v, err)
		}
	})
}
