package credential_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/big"
	"regexp"
	"strings"
	"testing"

	"github.com/scopegate/scopegate/credential"
)

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// Keys made by another program from what the format says, with their hashes.
var vectors = []struct{ name, id, key, hash string }{
	{
		"bytes 0 to 31", "AAAAbbbb0129",
		"sgk_AAAAbbbb0129_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf1IRdAb",
		"879bb1e63a8962647e99445471ca2a236ac157d0d3820a4502b1c03f3fe978c7",
	},
	{
		"least secret", "000000000000",
		"sgk_000000000000_00000000000000000000000000000000000000000000FApqC",
		"a77d9979e915b1094ebb8f2ac1b06a9a218a4d96a820da8b6ab6ae84b7ab3a44",
	},
	{
		"greatest secret", "zzzzzzzzzzzz",
		"sgk_zzzzzzzzzzzz_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp11cQQUL",
		"2a82a7c7d6200fa71c199e119ffabbb5cb5168fd9c49a745ed78e9da75b850a7",
	},
}

var goodKey = vectors[0].key

// base62 is the format's number notation, written a second time.
func base62(n *big.Int, width int) string {
	digits := make([]byte, width)
	n, base, digit := new(big.Int).Set(n), big.NewInt(int64(len(alphabet))), new(big.Int)
	for i := width - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		digits[i] = alphabet[digit.Int64()]
	}
	return string(digits)
}

// sealed puts the right checksum behind the rest of a key.
func sealed(head string) string {
	return head + base62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(head)))), 6)
}

var form = regexp.MustCompile(`\Asgk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}\z`)

// isKey is what Parse has to accept, from the format's description.
func isKey(text string) bool {
	if !form.MatchString(text) || sealed(text[:60]) != text {
		return false
	}
	n := new(big.Int)
	for _, c := range text[17:60] {
		n.Mul(n, big.NewInt(62)).Add(n, big.NewInt(int64(strings.IndexRune(alphabet, c))))
	}
	return n.BitLen() <= 256
}

func TestParseReadsKeysMadeElsewhere(t *testing.T) {
	for _, tt := range vectors {
		t.Run(tt.name, func(t *testing.T) {
			k, err := credential.Parse(tt.key)
			if err != nil {
				t.Fatal(err)
			}
			if k.ID() != tt.id || k.Reveal() != tt.key || k.Hash().String() != tt.hash {
				t.Errorf("id %q, key %q, hash %s", k.ID(), k.Reveal(), k.Hash())
			}
			if got, want := k.Verifier().String(), tt.id+":"+tt.hash; got != want {
				t.Errorf("verifier %q, want %q", got, want)
			}
		})
	}
}

func TestGenerate(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		k := credential.Generate()
		if !isKey(k.Reveal()) {
			t.Fatalf("%q is no key", k.Reveal())
		}
		if back, err := credential.Parse(k.Reveal()); err != nil || back.Reveal() != k.Reveal() {
			t.Fatalf("Parse: %v", err)
		}
		sum := sha256.Sum256([]byte(k.Reveal())) // what sha256sum prints
		if k.Hash().String() != hex.EncodeToString(sum[:]) {
			t.Fatal("the hash is not the SHA-256 of the whole key")
		}
		for _, part := range []string{k.ID(), k.Reveal()[17:60]} {
			if seen[part] {
				t.Fatalf("%q came twice", part)
			}
			seen[part] = true
		}
	}
}

// A random byte modulo 62 would make the first characters of the alphabet a
// quarter likelier than the others.
func TestGenerateFavoursNoCharacter(t *testing.T) {
	const keys = 20_000
	var count [256]int
	for range keys {
		for _, c := range []byte(credential.Generate().ID()) {
			count[c]++
		}
	}
	want := keys * 12 / len(alphabet)
	for _, c := range []byte(alphabet) {
		if off := count[c] - want; off*off > (want/10)*(want/10) { // 6 standard deviations
			t.Errorf("%q came %d times, want about %d", c, count[c], want)
		}
	}
}

func TestGenerateWithIDKeepsTheID(t *testing.T) {
	old := credential.Generate()
	k, err := credential.GenerateWithID(old.ID())
	if err != nil {
		t.Fatal(err)
	}
	if k.ID() != old.ID() || k.Reveal() == old.Reveal() || !isKey(k.Reveal()) {
		t.Errorf("%q for the id of %q", k.Reveal(), old.Reveal())
	}
	for _, id := range []string{"", "AAAAbbbb012", "AAAAbbbb01299", "AAAAbbbb012_", "AAAAbbbb01é", "sgk_AAAAbbbb"} {
		if k, err := credential.GenerateWithID(id); err == nil {
			t.Errorf("id %q gave %s", id, k)
		}
	}
}

func TestParseRejects(t *testing.T) {
	tooGreat := new(big.Int).Lsh(big.NewInt(1), 256)
	tests := []struct{ name, text, detail string }{
		{"nothing", "", "begin"},
		{"prefix alone", "sgk_", "characters"},
		{"another program's key", "ghp_" + goodKey[4:], "begin"},
		{"prefix in capitals", "SGK_" + goodKey[4:], "begin"},
		{"space before", " " + goodKey, "begin"},
		{"space behind", goodKey + " ", "characters"},
		{"newline behind", goodKey + "\n", "characters"},
		{"last character missing", goodKey[:len(goodKey)-1], "characters"},
		{"twice", goodKey + goodKey, "characters"},
		{"printed form", credential.Generate().String(), "characters"},
		{"no underscore", goodKey[:16] + "A" + goodKey[17:], "character that no key has"},
		{"underscore in the id", goodKey[:5] + "_" + goodKey[6:], "character that no key has"},
		{"NUL in the secret", goodKey[:30] + "\x00" + goodKey[31:], "character that no key has"},
		{"letter beyond ASCII", goodKey[:30] + "é" + goodKey[32:], "character that no key has"},
		{"hyphen in the checksum", goodKey[:65] + "-", "character that no key has"},
		{"all letters in capitals", "sgk_" + strings.ToUpper(goodKey[4:]), "checksum"},
		// Two texts of one number would be two keys of one secret.
		{"secret of 257 bits", sealed("sgk_AAAAbbbb0129_" + base62(tooGreat, 43)), "256-bit"},
		{"greatest digits", sealed("sgk_AAAAbbbb0129_" + strings.Repeat("z", 43)), "256-bit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := credential.Parse(tt.text)
			if !errors.Is(err, credential.ErrMalformed) {
				t.Fatalf("got %s, error %v", k, err)
			}
			if !strings.Contains(err.Error(), tt.detail) {
				t.Errorf("error %q does not speak of %q", err, tt.detail)
			}
			if k.Reveal() != "" {
				t.Error("a key came back with the error")
			}
		})
	}
}

// The checksum is there for hands and eyes: any one character that is wrong
// and any two that changed places must be found, or a typing error would look
// like an attack.
func TestParseFindsTypingErrors(t *testing.T) {
	for i := 4; i < len(goodKey); i++ {
		for _, c := range alphabet {
			typed := goodKey[:i] + string(c) + goodKey[i+1:]
			if _, err := credential.Parse(typed); (err == nil) != (typed == goodKey) {
				t.Errorf("%q instead of %q at %d: %v", c, goodKey[i], i, err)
			}
		}
		swapped := []byte(goodKey)
		swapped[i], swapped[i-1] = swapped[i-1], swapped[i]
		if _, err := credential.Parse(string(swapped)); (err == nil) != (string(swapped) == goodKey) {
			t.Errorf("characters %d and %d swapped: %v", i-1, i, err)
		}
	}
}

// Whoever logs a struct that holds a key means no harm: fmt goes round the
// methods of unexported fields, encoders round Stringers. Whatever the way,
// the secret must not come out of it.
func TestKeyNeverPrintsItsSecret(t *testing.T) {
	k, err := credential.Parse(goodKey)
	if err != nil {
		t.Fatal(err)
	}
	type open struct{ Key credential.Key }
	type closed struct{ key credential.Key }
	values := []any{
		k, &k,
		open{k},
		&open{k},
		closed{k},
		&closed{k},
		struct{ credential.Key }{k},
		[]credential.Key{k},
		map[string]credential.Key{"k": k},
		map[credential.Key]int{k: 1},
		[]closed{{k}},
		fmt.Errorf("making %v: %w", k, errors.New("no")),
	}
	secret := goodKey[17:60]
	leaks := func(out string) bool {
		return strings.Contains(out, secret) ||
			strings.Contains(strings.ToLower(out), hex.EncodeToString([]byte(secret)))
	}
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%t", "%20.4v"} {
			if out := fmt.Sprintf(verb, v); leaks(out) {
				t.Errorf("%s of %T gives %s", verb, v, out)
			}
		}
		if out, err := json.Marshal(v); err == nil && leaks(string(out)) {
			t.Errorf("JSON of %T gives %s", v, out)
		}
		var buf bytes.Buffer
		slog.New(slog.NewTextHandler(&buf, nil)).Info("made", "key", v)
		slog.New(slog.NewJSONHandler(&buf, nil)).Info("made", "key", v)
		if leaks(buf.String()) {
			t.Errorf("slog of %T gives %s", v, buf.String())
		}
	}

	const want = "sgk_AAAAbbbb0129_REDACTED"
	text, _ := k.MarshalText()
	quoted, _ := json.Marshal(k)
	for _, got := range []string{k.String(), fmt.Sprint(k), fmt.Sprintf("%#v", k), string(text), strings.Trim(string(quoted), `"`)} {
		if got != want {
			t.Errorf("printed %q, want %q", got, want)
		}
	}
}

func TestZeroKeyIsNone(t *testing.T) {
	var k credential.Key
	if k.ID() != "" || k.Reveal() != "" || k.String() != "sgk__REDACTED" {
		t.Errorf("id %q, text %q, prints %s", k.ID(), k.Reveal(), k)
	}
}

// What Parse accepts is exactly what the format describes, and one key has
// one spelling.
func FuzzParse(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.key)
		f.Add(v.key + "=")
	}
	f.Add(sealed("sgk_AAAAbbbb0129_" + strings.Repeat("z", 43)))
	f.Add("Bearer " + goodKey)
	f.Fuzz(func(t *testing.T, text string) {
		// Most mutations break the checksum; see behind it too.
		for _, text := range []string{text, sealed(text)} {
			k, err := credential.Parse(text)
			if (err == nil) != isKey(text) {
				t.Fatalf("Parse(%q): %v", text, err)
			}
			if err != nil {
				if !errors.Is(err, credential.ErrMalformed) {
					t.Fatalf("Parse(%q): %v does not wrap ErrMalformed", text, err)
				}
				continue
			}
			if k.Reveal() != text {
				t.Fatalf("Parse(%q) is %q", text, k.Reveal())
			}
			if sum := sha256.Sum256([]byte(text)); k.Hash() != sum {
				t.Fatalf("Hash of %q", text)
			}
		}
	})
}
