package tokens_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/scopegate/scopegate/tokens"
)

func TestSetsPassword(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		want       bool
	}{
		{"name alone", `{"name":"A"}`, false},
		{"password", `{"name":"A","password":"x"}`, true},
		{"null", `{"password":null}`, true},
		{"escaped", `{"p\u0061ssword":"x"}`, true},
		{"another case", `{"PassWord":"x"}`, true},
		{"nested", `{"data":[{"user":{"password":"x"}}]}`, true},
		{"longer", `{"new_password_confirmation":"x"}`, true},
		{"camel", `{"plainPassword":"x"}`, true},
		{"brackets", `{"user[password]":"x"}`, true},
		{"separated", `{"pass-word":"x"}`, true},
		{"padded", `{" password\u0000":"x"}`, true},
		{"wide", `{"ｐａｓｓｗｏｒｄ":"x"}`, true},
		{"long s", `{"pa\u017f\u017fword":"x"}`, true},
		{"accent", `{"pässword":"x"}`, true},
		{"invisible", `{"pass\u200b\u00adword":"x"}`, true},
		{"bold", `{"𝐩𝐚𝐬𝐬𝐰𝐨𝐫𝐝":"x"}`, true},
		{"passwd", `{"passwd":"x"}`, true},
		{"pass", `{"pass":"x"}`, true},
		{"pwd", `{"PWD":"x"}`, true},
		{"digits", `{"pass_1":"x"}`, true},
		{"passport", `{"passport":"x","bypass":true}`, false},
		{"as a value", `{"name":"password"}`, false},
		{"no object", `"password"`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tokens.SetsPassword([]byte(tc.body))
			if err != nil || got != tc.want {
				t.Errorf("SetsPassword = %v, %v", got, err)
			}
		})
	}
	for _, bad := range []string{"", `{"a":1,"a":2}`, `{"name":"A"}{"password":"x"}`, `password=x`} {
		if got, err := tokens.SetsPassword([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// FuzzSetsPassword holds that no body passes in which the standard library,
// which takes names in any case, finds a password.
func FuzzSetsPassword(f *testing.F) {
	f.Add([]byte(`{"password":"x"}`))
	f.Add([]byte(`{"PA\u017fSWORD":"x","name":"A"}`))
	f.Add([]byte(`{"data":{"passwd":1},"user":{"password":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		sets, err := tokens.SetsPassword(b)
		if err != nil || sets {
			return
		}
		type member struct{ Password, Passwd, Pass, Pwd json.RawMessage }
		var got struct {
			member
			Data, User member
		}
		if json.Unmarshal(b, &got) != nil {
			return // of another shape
		}
		for _, m := range []member{got.member, got.Data, got.User} {
			if m.Password != nil || m.Passwd != nil || m.Pass != nil || m.Pwd != nil {
				t.Fatalf("%s sets %+v", b, m)
			}
		}
		if strings.Contains(string(b), `"password":`) && !strings.Contains(string(b), `\"password`) {
			t.Fatalf("%s", b)
		}
	})
}
