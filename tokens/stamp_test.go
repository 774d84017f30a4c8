package tokens_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/scopegate/scopegate/policy"
	"github.com/scopegate/scopegate/tokens"
)

const gatewayID = "abcdefg2"

func stamper(t testing.TB, gateway, key string) *tokens.Stamper {
	t.Helper()
	k, err := tokens.NewStampKey([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	s, err := tokens.NewStamper(gateway, k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStampTellsItsOwn(t *testing.T) {
	s := stamper(t, gatewayID, "a key of the gateway")
	nonce := tokens.NewNonce()
	name := s.Stamp("billing", nonce, "nightly job")
	if len(name) != len("nightly job")+tokens.StampLength {
		t.Errorf("%q: the stamp has another length than it says", name)
	}
	got, genuine := s.Read(name)
	if !genuine || got.Nonce != nonce || got.Gateway != gatewayID {
		t.Errorf("%+v, %v", got, genuine)
	}
	if tokens.Unstamped(name) != "nightly job" {
		t.Errorf("unstamped: %q", tokens.Unstamped(name))
	}
	other, _ := s.Read(s.Stamp("sales", nonce, "nightly job"))
	if other.Team == got.Team {
		t.Error("two teams have one hash")
	}
	for what, forged := range map[string]string{
		"another name":         "nightly jo" + name[len("nightly job"):],
		"a longer name":        "x" + name,
		"another nonce":        strings.Replace(name, nonce, tokens.NewNonce(), 1),
		"another gateway's":    stamper(t, "22222222", "a key of the gateway").Stamp("billing", nonce, "nightly job"),
		"another key's":        stamper(t, gatewayID, "a key of another one").Stamp("billing", nonce, "nightly job"),
		"in upper case":        strings.ToUpper(name),
		"a stamp upon a stamp": name + name[len("nightly job"):],
		"cut off":              name[:len(name)-1],
		"none":                 "nightly job",
	} {
		if _, genuine := s.Read(forged); genuine {
			t.Errorf("%s is taken for genuine: %q", what, forged)
		}
	}
}

func TestLooksStamped(t *testing.T) {
	name := stamper(t, gatewayID, "a key of the gateway").Stamp("billing", tokens.NewNonce(), "x")
	for text, want := range map[string]bool{
		name:                  true,
		strings.ToUpper(name): true,
		name + " ":            false,
		name[1:]:              true, // all of it is the stamp
		name[2:]:              false,
		strings.Replace(name, "-sg-", "-ſg-", 1): false, // folds to s
		"": false,
	} {
		if got := tokens.LooksStamped(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
		if cut := tokens.Unstamped(text); (cut != text) != want {
			t.Errorf("%q becomes %q", text, cut)
		}
	}
}

func TestShapeLeavesRoomForAStamp(t *testing.T) {
	s := stamper(t, gatewayID, "a key of the gateway")
	const most = tokens.DefaultMaxName - tokens.StampLength
	stampAlone := s.Stamp("billing", tokens.NewNonce(), "")
	for _, tc := range []struct {
		name    string
		asked   string
		maxName int
		refused string // part of why; "" is not
	}{
		{"as long as may be", strings.Repeat("é", most), 0, ""},
		{"a character too long", strings.Repeat("é", most+1), 0, "1 to 69 characters, not 70"},
		{"as long as the gateway says", strings.Repeat("n", 8), tokens.MinMaxName, ""},
		{"longer than the gateway says", strings.Repeat("n", 9), tokens.MinMaxName, "1 to 8 characters, not 9"},
		// They would pass in the console for another's.
		{"a stamp alone", stampAlone, 0, "stamps"},
		{"a stamped name", "job" + stampAlone, 0, "stamps"},
		{"a stamped name in upper case", "JOB" + strings.ToUpper(stampAlone), 0, "stamps"},
		{"a stamp in the middle", stampAlone + "-x", 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := zone(t, "UTC")
			r.MaxName = tc.maxName
			m, refusal := tokens.Shape([]byte(body(`"`+tc.asked+`"`, goodScopes, goodExpires, goodIPs)), caller(), r, now)
			if tc.refused != "" {
				if refusal == nil || refusal.Reason != policy.MintInvalid || refusal.Field != "name" || !strings.Contains(refusal.Detail, tc.refused) {
					t.Errorf("%+v", refusal)
				}
				return
			}
			if refusal != nil {
				t.Fatal(refusal)
			}
			m.Sent = s.Stamp("billing", tokens.NewNonce(), m.Name)
			var sent struct{ Name string }
			if err := json.Unmarshal(m.Body(), &sent); err != nil || sent.Name != m.Sent {
				t.Errorf("sent %s, %v", m.Body(), err)
			}
			if n := utf8.RuneCountInString(sent.Name); n > cmp.Or(tc.maxName, tokens.DefaultMaxName) || tokens.Unstamped(sent.Name) != tc.asked {
				t.Errorf("%q has %d characters", sent.Name, n)
			}
		})
	}
}

func TestStampKeyNeverPrints(t *testing.T) {
	const secret = "canary-canary-canary"
	k, err := tokens.NewStampKey([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	s, err := tokens.NewStamper(gatewayID, k)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"key": k})
	if err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%x", k.Derive("stamp"))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		text = fmt.Appendf(text, verb+verb+verb, k, s, *s)
	}
	if strings.Contains(string(text), secret) || strings.Contains(string(text), sum) {
		t.Errorf("printed: %s", text)
	}
	if _, err := tokens.NewStampKey([]byte("short")); err == nil {
		t.Error("a short key is taken")
	}
	for _, id := range []string{"", "abcdefg", "ABCDEFG2", "abcdefg1", "abcdefgh2"} {
		if _, err := tokens.NewStamper(id, k); err == nil {
			t.Errorf("the gateway id %q is taken", id)
		}
	}
	if _, err := tokens.NewStamper(gatewayID, tokens.StampKey{}); err == nil {
		t.Error("no key is taken")
	}
}

// FuzzStamp holds that what is stamped reads back, whatever the name.
func FuzzStamp(f *testing.F) {
	s := stamper(f, gatewayID, "a key of the gateway")
	f.Add("billing", "nightly job")
	f.Add("", s.Stamp("billing", tokens.NewNonce(), "x"))
	f.Add("-", "\xff-sg-")
	f.Fuzz(func(t *testing.T, team, name string) {
		nonce := tokens.NewNonce()
		stamped := s.Stamp(team, nonce, name)
		got, genuine := s.Read(stamped)
		if !genuine || got.Nonce != nonce || got.Gateway != gatewayID || tokens.Unstamped(stamped) != name {
			t.Errorf("%q is read as %+v, %v", stamped, got, genuine)
		}
		if len(stamped) != len(name)+tokens.StampLength {
			t.Errorf("%q became %q", name, stamped)
		}
	})
}

// FuzzForgedStamp holds that whoever changes anything in a stamped name, or
// cuts it and puts pieces together, has no genuine stamp.
func FuzzForgedStamp(f *testing.F) {
	s := stamper(f, gatewayID, "a key of the gateway")
	const nonce, other = "aaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbb"
	one, two := s.Stamp("billing", nonce, "nightly job"), s.Stamp("sales", other, "x")
	f.Add(one)
	f.Add(two)
	f.Add("nightly job" + two[1:])
	f.Add(one + two[1:])
	f.Add(strings.Replace(one, nonce, other, 1))
	f.Add(strings.ToUpper(one))
	f.Fuzz(func(t *testing.T, name string) {
		stamp, genuine := s.Read(name)
		if genuine && name != one && name != two {
			t.Errorf("%q is taken for genuine", name)
		}
		if cut := cutStamp(name); cut != tokens.Unstamped(name) || (cut != name) != tokens.LooksStamped(name) || (stamp.Nonce != "") != (cut != name) {
			t.Errorf("%q becomes %q, want %q; its stamp %+v", name, tokens.Unstamped(name), cut, stamp)
		}
	})
}

// cutStamp cuts a stamp off by its form, in another way than the package.
func cutStamp(name string) string {
	const form = "-sg-????????-????????-????????????????????-????????????????"
	at := len(name) - len(form)
	if at < 0 {
		return name
	}
	for i, want := range []byte(form) {
		c := name[at+i]
		ok := c == want || want == 's' && c == 'S' || want == 'g' && c == 'G'
		if want == '?' {
			ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '2' && c <= '7'
		}
		if !ok {
			return name
		}
	}
	return name[:at]
}
