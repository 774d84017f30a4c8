package upstream

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

const (
	minToken = 8       // shorter is a mistake, and would be found in harmless answers
	maxToken = 4 << 10 // longer is another file
)

// token is the master token. It is kept in a function, the one kind of value
// into which no printer looks: fmt follows a pointer where the verb does not
// fit, methods or not.
type token struct{ forms func() *forms }

// forms are the forms in which the gateway uses the master token. They are
// only held in passing.
type forms struct {
	bearer string

	// The whole headers of a request without and with a body. They are shared
	// by all requests: a transport must not change the header of a request,
	// and one that does is found by the tests.
	bare, withBody http.Header

	// What no answer may contain: the token, and what it becomes where a
	// slash is written as \/ in JSON, as PHP does.
	marks [][]byte
	texts []string // the same, for header values
}

const redacted = "REDACTED"

// Format prints a placeholder, whatever the verb.
func (*token) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// String prints a placeholder.
func (*token) String() string { return redacted }

// MarshalText prints a placeholder, in JSON and logs too.
func (*token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// newToken takes the text of a source, with the line end that files have. Its
// errors tell what is wrong but nothing of the text.
func newToken(text, userAgent string) (*token, error) {
	text = strings.TrimRight(text, "\r\n")
	switch {
	case text == "":
		return nil, errors.New("it is empty")
	case len(text) < minToken:
		return nil, fmt.Errorf("it has fewer than %d characters", minToken)
	case len(text) > maxToken:
		return nil, fmt.Errorf("it has more than %d characters", maxToken)
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return nil, errors.New("it has a space, a line break or a character beyond ASCII; it must be the token alone, without a `Bearer` before it")
		}
	}
	t := &forms{bearer: "Bearer " + text, texts: []string{text}}
	if escaped := strings.ReplaceAll(text, "/", `\/`); escaped != text {
		t.texts = append(t.texts, escaped)
	}
	for _, s := range t.texts {
		t.marks = append(t.marks, []byte(s))
	}
	t.bare = http.Header{
		"Accept":          {"application/json"},
		"Accept-Encoding": {"identity"}, // an encoded answer could not be searched
		"Authorization":   {t.bearer},
		"User-Agent":      {userAgent},
	}
	t.withBody = t.bare.Clone()
	t.withBody.Set("Content-Type", "application/json")
	return &token{forms: func() *forms { return t }}, nil
}

// source is where the master token comes from.
type source struct {
	env  string // the name of a variable, or
	path string // of a file

	// unnamed is of a file that was named by no absolute path and is not there:
	// what stands in its place may be the token itself.
	unnamed bool
}

// String names the source for logs and errors.
func (s source) String() string {
	switch {
	case s.env != "":
		return "environment variable " + s.env
	case s.unnamed:
		return "the file (its name is no absolute path and is not repeated: it may be the token itself)"
	}
	return "file " + s.path
}

// read returns the text that the source has now.
func (s source) read() (string, error) {
	if s.env != "" {
		text, ok := os.LookupEnv(s.env)
		if !ok {
			return "", errors.New("it is not set")
		}
		return text, nil
	}
	// Looked at first, since opening a pipe would wait for a writer.
	switch info, err := os.Stat(s.path); {
	case err != nil:
		return "", unnamed(err)
	case !info.Mode().IsRegular():
		return "", errors.New("it is not a regular file")
	}
	f, err := os.Open(s.path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxToken+3)) // a line end, and one more
	return string(text), err
}

// unnamed is an error without the path, which is told with it where it may be.
func unnamed(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// source reads where the master token is to come from. Its errors repeat
// nothing of what was written, which may well be the token.
func (c *Config) source() (source, error) {
	const mend = "write master_token {env.NAME}, master_token {file.PATH} or master_token_file PATH"
	switch {
	case c.MasterToken != "" && c.MasterTokenFile != "":
		return source{}, errors.New("upstream: master_token stands beside master_token_file; keep one of the two")
	case c.MasterTokenFile != "":
		if strings.ContainsAny(c.MasterTokenFile, "{}") {
			return source{}, errors.New("upstream: master_token_file takes a plain path, without placeholders")
		}
		return file(c.MasterTokenFile)
	case c.MasterToken == "":
		return source{}, errors.New("upstream: no master token; " + mend)
	}
	where, err := placeholder(c.MasterToken)
	if err != nil {
		return source{}, fmt.Errorf("upstream: master_token %w; %s", err, mend)
	}
	return where, nil
}

// placeholder reads exactly one {env.NAME} or {file.PATH}.
func placeholder(text string) (source, error) {
	inner, opened := strings.CutPrefix(text, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	switch {
	case strings.HasPrefix(text, "{$"):
		return source{}, errors.New("is a {$NAME}, which only the Caddyfile knows: it becomes the token itself, and Caddy shows that at GET /config/ and saves it to disk")
	case strings.Count(text, "{") > 1 || strings.Count(text, "}") > 1:
		return source{}, errors.New("holds more than one placeholder")
	case !opened || !closed:
		return source{}, errors.New("is not a placeholder but a literal, which is also what {$NAME} becomes: Caddy would show it at GET /config/ and save it to disk")
	}
	if name, ok := strings.CutPrefix(inner, "env."); ok {
		switch {
		case strings.Contains(name, ":"):
			return source{}, errors.New("has a default, which would be a token that stands in the configuration")
		case name == "" || strings.ContainsAny(name, "= \t\r\n\x00"):
			return source{}, errors.New("names no environment variable")
		}
		return source{env: name}, nil
	}
	if path, ok := strings.CutPrefix(inner, "file."); ok {
		if strings.Contains(path[len(filepath.VolumeName(path)):], ":") {
			return source{}, errors.New("has a colon in its path, which looks like a default, a token that stands in the configuration; for such a path use master_token_file")
		}
		return file(path)
	}
	return source{}, errors.New("is a placeholder other than {env.NAME} and {file.PATH}, and may not be known when the gateway starts")
}

// file makes the path absolute, so that what is watched is what is read.
func file(path string) (source, error) {
	if path == "" {
		return source{}, errors.New("names no file")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return source{}, fmt.Errorf("finding the token's file: %w", err)
	}
	_, err = os.Lstat(abs)
	return source{path: abs, unnamed: !filepath.IsAbs(path) && errors.Is(err, fs.ErrNotExist)}, nil
}
