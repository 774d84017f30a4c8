package tokens_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/scopegate/scopegate/tokens"
)

const (
	ours   = "3f0c6a52-8d1e-4b7a-9c55-000000000007"
	theirs = "3f0c6a52-8d1e-4b7a-9c55-000000000008"

	// full is a token as an upstream might list it, with more than it should.
	full = `{"token":"SECRET","allowed_scopes":["members.read"],"id":"` + ours + `","name":"caf\u00e9","owner":{"mail":"SECRET"},` +
		`"allowed_ips":[ ],"expires_at":null,"created_at":"2026-01-31 10:00:00","plain_text_token":"SECRET","Name":"SECRET"}`
	rebuilt = `{"id":"` + ours + `","name":"café","created_at":"2026-01-31 10:00:00","expires_at":null,"allowed_ips":[],"allowed_scopes":["members.read"]}`
	foreign = `{"id":"` + theirs + `","name":"SECRET","allowed_scopes":{"any":"shape"}}`
)

func keepOurs(id []byte) bool { return string(id) == ours }
func keepNone([]byte) bool    { return false }
func keepAll([]byte) bool     { return true }

func TestListRebuilds(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		keep       func([]byte) bool
		want       string
	}{
		{"bare", ` [ ` + foreign + ` , ` + full + ` ] `, keepOurs, `[` + rebuilt + `]`},
		{"data", `{"data":[` + full + `,` + foreign + `]}`, keepOurs, `{"data":[` + rebuilt + `]}`},
		{"items", `{"items":[` + full + `]}`, keepOurs, `{"items":[` + rebuilt + `]}`},
		// A count of everyone's tokens, and links to more of them.
		{"members beside", `{"total":2,"data":[` + full + `],"links":{"next":"SECRET"},"message":"SECRET"}`, keepOurs, `{"data":[` + rebuilt + `]}`},
		{"wrapper of another kind beside", `{"items":7,"data":[` + full + `]}`, keepOurs, `{"data":[` + rebuilt + `]}`},
		{"none of ours", `[` + foreign + `]`, keepOurs, `[]`},
		{"nobody's", `[` + full + `,` + foreign + `]`, keepNone, `[]`},
		{"empty", `[]`, keepOurs, `[]`},
		{"empty data", `{"data":[]}`, keepOurs, `{"data":[]}`},
		{"two", `[{"id":"` + theirs + `"},` + full + `]`, keepAll, `[{"id":"` + theirs + `"},` + rebuilt + `]`},
		{
			"other plain values", `[{"id":"` + ours + `","name":null,"expires_at":1796083200,"allowed_ips":"*","allowed_scopes":[1,true,null]}]`, keepOurs,
			`[{"id":"` + ours + `","name":null,"expires_at":1796083200,"allowed_ips":"*","allowed_scopes":[1,true,null]}]`,
		},
		{"escaped names", `[{"\u0069d":"` + ours + `","n\u0061me":"x"}]`, keepOurs, `[{"id":"` + ours + `","name":"x"}]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tc.body), iotest.OneByteReader(strings.NewReader(tc.body))} {
				got, err := tokens.List(r, tc.keep)
				if err != nil || string(got) != tc.want {
					t.Errorf("List = %s, %v\nwant %s", got, err, tc.want)
				}
			}
		})
	}
}

func TestListRejectsWhatItDoesNotKnow(t *testing.T) {
	for _, tc := range []struct{ name, body string }{
		{"nothing", ""},
		{"null", "null"},
		{"text", "upstream says SECRET"},
		{"HTML", "<html>SECRET</html>"},
		{"a string", `"SECRET"`},
		{"an empty object", `{}`},
		{"an error", `{"message":"SECRET"}`},
		{"another wrapper", `{"tokens":[` + full + `]}`},
		{"a wrapper in another case", `{"Data":[` + full + `]}`},
		{"wrapped twice", `{"data":{"items":[` + full + `]}}`},
		{"both wrappers", `{"data":[],"items":[]}`},
		{"a wrapper twice", `{"data":[],"data":[` + full + `]}`},
		{"a map by id", `{"` + ours + `":` + full + `}`},
		{"data is null", `{"data":null}`},
		{"an element without id", `[` + full + `,{"name":"SECRET"}]`},
		{"an element with another kind of id", `[{"id":7}]`},
		{"an element whose id is null", `[{"id":null}]`},
		{"an element whose id is no UUID", `[{"id":"SECRET"}]`},
		{"an element whose id has a space", `[{"id":"` + ours + ` "}]`},
		{"an element with an id in another case", `[{"ID":"` + ours + `"}]`},
		{"an element with two ids", `[{"id":"` + theirs + `","\u0069d":"` + ours + `"}]`},
		{"an element that is an id", `["` + ours + `"]`},
		{"an element that is a list", `[[` + full + `]]`},
		{"an element that is null", `[null]`},
		{"a token with an object for a name", `[{"id":"` + ours + `","name":{"secret":"SECRET"}}]`},
		{"a token with objects for scopes", `[{"id":"` + ours + `","allowed_scopes":[{"secret":"SECRET"}]}]`},
		{"a token with lists for addresses", `[{"id":"` + ours + `","allowed_ips":[["SECRET"]]}]`},
		{"cut in a token", `[` + full[:100]},
		{"cut between tokens", `[` + full + `,`},
		{"cut before the end", `[` + full},
		{"cut behind the list", `{"data":[` + full + `]`},
		{"something behind", `[` + full + `] SECRET`},
		{"a second list", `[` + full + `][]`},
		{"not UTF-8", "[{\"id\":\"" + ours + "\",\"name\":\"\xff\"}]"},
		{"byte order mark", "\xef\xbb\xbf[]"},
		{"deep", `[` + strings.Repeat("[", 100)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tokens.List(strings.NewReader(tc.body), keepOurs)
			if !errors.Is(err, tokens.ErrShape) || got != nil {
				t.Errorf("List = %s, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), "SECRET") {
				t.Error(err)
			}
		})
	}
}

func TestListRejectsTooMuch(t *testing.T) {
	token := `{"id":"` + ours + `","name":"` + strings.Repeat("x", 100_000) + `"}`
	many := `[` + token + strings.Repeat(`,`+token, 50) + `]`
	if _, err := tokens.List(strings.NewReader(many), keepAll); !errors.Is(err, tokens.ErrTooLarge) {
		t.Errorf("List of 5 MB to keep: %v", err)
	}
	// What belongs to others takes no room.
	if got, err := tokens.List(strings.NewReader(many), keepNone); err != nil || string(got) != `[]` {
		t.Errorf("List of 5 MB to drop: %s, %v", got, err)
	}
	endless := io.MultiReader(strings.NewReader(`[{"id":"`), forever("x"))
	if _, err := tokens.List(endless, keepNone); !errors.Is(err, tokens.ErrTooLarge) {
		t.Errorf("List of an endless token: %v", err)
	}
	endless = io.MultiReader(strings.NewReader(`{"a":1`), forever(`,"a":1`))
	if _, err := tokens.List(endless, keepNone); !errors.Is(err, tokens.ErrShape) {
		t.Errorf("List of an endless object: %v", err)
	}
}

// forever repeats a text and never ends.
type forever string

func (f forever) Read(p []byte) (int, error) {
	n := copy(p, strings.Repeat(string(f), 1+len(p)/len(f)))
	return n - n%len(f), nil
}

// A broken connection is another outcome than a broken document, and so is an
// answer that upstream's reader withheld.
func TestListPassesReadErrors(t *testing.T) {
	withheld := errors.New("withheld")
	_, err := tokens.List(io.MultiReader(strings.NewReader(`[`+full), iotest.ErrReader(withheld)), keepOurs)
	if !errors.Is(err, withheld) || errors.Is(err, tokens.ErrShape) {
		t.Errorf("List = %v", err)
	}
}

func TestObject(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"bare", full, rebuilt},
		{"data", `{"data":` + full + `,"message":"SECRET"}`, `{"data":` + rebuilt + `}`},
		{"item", `{"item":` + full + `}`, `{"item":` + rebuilt + `}`},
		{"token", `{"token":` + full + `}`, `{"token":` + rebuilt + `}`},
		{"an empty wrapper beside", `{"item":{},"data":` + full + `}`, `{"data":` + rebuilt + `}`},
		{"id in another case", `{"id":"` + strings.ToUpper(ours) + `"}`, `{"id":"` + strings.ToUpper(ours) + `"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tokens.Object([]byte(tc.body), ours)
			if err != nil || string(got) != tc.want {
				t.Errorf("Object = %s, %v\nwant %s", got, err, tc.want)
			}
		})
	}
	for _, tc := range []struct{ name, body string }{
		{"nothing", ""},
		{"a list", `[` + full + `]`},
		{"no id", `{"name":"SECRET"}`},
		{"another token", foreign},
		{"another token, wrapped", `{"data":` + foreign + `}`},
		{"two tokens", `{"data":` + full + `,"item":` + full + `}`},
		{"wrapped twice", `{"data":{"data":` + full + `}}`},
		{"a wrapper in another case", `{"Data":` + full + `}`},
		{"an id that is no UUID around a token", `{"id":7,"data":` + full + `}`},
		{"an id that is no UUID beside a token", `{"item":{"id":"SECRET"},"data":` + full + `}`},
		{"a name that is an object", `{"id":"` + ours + `","name":{"SECRET":1}}`},
		{"twice", full + full},
		{"cut", full[:len(full)-1]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tokens.Object([]byte(tc.body), ours)
			if !errors.Is(err, tokens.ErrShape) || got != nil || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("Object = %s, %v", got, err)
			}
		})
	}
}

func TestMintedID(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"created_id", `{"created_id":"` + ours + `","message":"Token created successfully","token":"SECRET"}`, ours},
		{"id", `{"token":"SECRET","id":"` + ours + `"}`, ours},
		{"both", `{"id":"` + theirs + `","created_id":"` + ours + `"}`, ours},
		{"data", `{"data":{"id":"` + ours + `","token":"SECRET"}}`, ours},
		{"token", `{"message":"x","token":{"created_id":"` + ours + `","value":"SECRET"}}`, ours},
		{"as upstream spells it", `{"id":"` + strings.ToUpper(ours) + `"}`, strings.ToUpper(ours)},
		{"nothing", ``, ""},
		{"no id", `{"token":"SECRET"}`, ""},
		{"no UUID", `{"created_id":"SECRET"}`, ""},
		{"no UUID, but an id", `{"created_id":null,"id":"` + ours + `"}`, ""},
		{"a list", `[{"id":"` + ours + `"}]`, ""},
		{"a string", `"` + ours + `"`, ""},
		{"two", `{"data":{"id":"` + ours + `"},"token":{"id":"` + theirs + `"}}`, ""},
		{"twice", `{"id":"` + ours + `","id":"` + theirs + `"}`, ""},
		{"wrapped twice", `{"data":{"token":{"id":"` + ours + `"}}}`, ""},
		{"another wrapper", `{"user":{"id":"` + ours + `"}}`, ""},
		{"another case", `{"Id":"` + ours + `"}`, ""},
		{"cut", `{"id":"` + ours + `","token":"SECRET`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tokens.MintedID([]byte(tc.body))
			if got != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("MintedID = %q, %v", got, err)
			}
			if err != nil && (!errors.Is(err, tokens.ErrShape) || strings.Contains(err.Error(), "SECRET")) {
				t.Error(err)
			}
		})
	}
}

func BenchmarkList(b *testing.B) {
	var list bytes.Buffer
	list.WriteByte('[')
	for i := range 10_000 {
		if i > 0 {
			list.WriteByte(',')
		}
		fmt.Fprintf(&list, `{"id":"3f0c6a52-8d1e-4b7a-9c55-%012d","name":"token %d","created_at":"2026-01-31 10:00:00","expires_at":"2027-01-31 23:59:59",`+
			`"allowed_ips":["203.0.113.10","203.0.113.11"],"allowed_scopes":["members.read","members.read-all","system.read-all"]}`, i, i)
	}
	list.WriteByte(']')
	b.SetBytes(int64(list.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tokens.List(bytes.NewReader(list.Bytes()), func(id []byte) bool { return id[len(id)-1] == '0' }); err != nil {
			b.Fatal(err)
		}
	}
}
