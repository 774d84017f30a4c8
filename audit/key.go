package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Keys are what a log is signed with, and what secrets are looked up by in it.
// They are made once for a log, whose name they hold, and stay on its machine.
type Keys struct {
	origin      string // the log's name
	signer      note.Signer
	public      string
	older       []note.Signer
	olderPublic []string
	fingerprint secret
}

// secret is key material. It does not print.
type secret [sha256.Size]byte

// Format prints no secret.
func (secret) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("(secret)")) }

// Format prints the public key alone.
func (k *Keys) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(k.public)) }

const (
	originPrefix  = "scopegate/"
	privateKey    = "PRIVATE+KEY+"
	fingerprinter = "FINGERPRINT+KEY+"
	keyComment    = "# The key of a scopegate audit log. Who has it can sign another log in its place.\n"
	maxKeyFile    = 64 << 10
)

// NewKeys makes the keys of a new log, and returns them as they are kept.
func NewKeys() ([]byte, error) {
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	key, _, err := note.GenerateKey(rand.Reader, originPrefix+hex.EncodeToString(id))
	if err != nil {
		return nil, err
	}
	var finger secret
	if _, err := rand.Read(finger[:]); err != nil {
		return nil, err
	}
	return []byte(keyComment + key + "\n" + fingerprinter + base64.StdEncoding.EncodeToString(finger[:]) + "\n"), nil
}

// Rotated returns the text of keys with a new one in front, which the one that
// was first until now will vouch for in the log.
func Rotated(text []byte) ([]byte, error) {
	k, err := ParseKeys(text)
	if err != nil {
		return nil, err
	}
	key, _, err := note.GenerateKey(rand.Reader, k.origin)
	if err != nil {
		return nil, err
	}
	return append([]byte(keyComment+key+"\n"), bytes.TrimPrefix(text, []byte(keyComment))...), nil
}

// ParseKeys reads keys. The first is the one that signs; those behind it were
// before it.
func ParseKeys(text []byte) (*Keys, error) {
	k := &Keys{}
	seen := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, privateKey):
			if err := k.add(line); err != nil {
				return nil, err
			}
		case strings.HasPrefix(line, fingerprinter):
			raw, err := base64.StdEncoding.DecodeString(line[len(fingerprinter):])
			if err != nil || len(raw) != len(k.fingerprint) {
				return nil, errors.New("the line that begins with " + fingerprinter + " is not one that scopegate wrote")
			}
			seen = true
			copy(k.fingerprint[:], raw)
		default: // never shown: it may be a secret
			return nil, errors.New("a line begins neither with " + privateKey + " nor with " + fingerprinter)
		}
	}
	switch {
	case k.signer == nil:
		return nil, errors.New("no line begins with " + privateKey)
	case !seen:
		return nil, errors.New("no line begins with " + fingerprinter)
	}
	return k, nil
}

func (k *Keys) add(line string) error {
	signer, err := note.NewSigner(line)
	if err != nil {
		return errors.New("a line that begins with " + privateKey + " is not one that scopegate wrote")
	}
	switch {
	case !strings.HasPrefix(signer.Name(), originPrefix):
		return fmt.Errorf("a key is of %q, not of a log of scopegate", signer.Name())
	case k.signer == nil:
		k.origin, k.signer = signer.Name(), signer
		k.public, err = publicOf(line)
		return err
	case signer.Name() != k.origin:
		return fmt.Errorf("keys of two logs, %s and %s", k.origin, signer.Name())
	}
	public, err := publicOf(line)
	k.older, k.olderPublic = append(k.older, signer), append(k.olderPublic, public)
	return err
}

// publicOf returns the public key that belongs to a private one.
func publicOf(line string) (string, error) {
	parts := strings.Split(line, "+") // PRIVATE, KEY, name, hash, key, and the key may hold a +
	if len(parts) < 5 {
		return "", errors.New("a key is too short")
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Join(parts[4:], "+"))
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return "", errors.New("a key is not of Ed25519")
	}
	pair := ed25519.NewKeyFromSeed(raw[1:])
	return note.NewEd25519VerifierKey(parts[2], pair.Public().(ed25519.PublicKey)) //nolint:forcetypeassert // documented to be one
}

// LoadKeys reads the keys of a log from a file, which it makes where there is
// none. Others than its owner must not read it.
func LoadKeys(path string) (*Keys, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeKeys(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key of the audit log: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading the key of the audit log: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("the key of the audit log, %s, has mode %04o, so that others can sign in its place; chmod 0600 it", path, mode)
	}
	k, err := ParseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("reading the key of the audit log, %s: %w", path, err)
	}
	return k, nil
}

// makeKeys makes the keys of a log that has none. Those that another process
// has made meanwhile stay, since it may sign with them already.
func makeKeys(path string) ([]byte, error) {
	text, err := NewKeys()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	err = putKeys(path, text, link)
	if errors.Is(err, fs.ErrExist) {
		return os.ReadFile(path)
	}
	return text, err
}

// link gives a file a name that no other has.
func link(from, to string) error {
	err := os.Link(from, to)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return os.Rename(from, to) // a file system without links
	}
	return err
}

// WriteKeys puts keys in the place of those that are there.
func WriteKeys(path string, text []byte) error { return putKeys(path, text, os.Rename) }

// putKeys writes keys beside their place first: a process that dies meanwhile
// leaves none there rather than half of them.
func putKeys(path string, text []byte, put func(from, to string) error) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // which it was, if it was not renamed
	_, err = file.Write(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = put(file.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path)) // a log must not outlive its key
}

// Public is the key that checks signatures, in the form of signed notes. It
// begins with the log's name.
func (k *Keys) Public() string { return k.public }

// publics are the public keys of all that have signed.
func (k *Keys) publics() []string { return append([]string{k.public}, k.olderPublic...) }

// Log is the log's name.
func (k *Keys) Log() string { return k.origin }

// Fingerprint is what stands in the log for a secret: the log can be asked for
// a secret that one has, and nobody can read one out of it.
func (k *Keys) Fingerprint(value string) string {
	mac := hmac.New(sha256.New, k.fingerprint[:])
	mac.Write([]byte(value))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
