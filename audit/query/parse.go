package query

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// maxDepth bounds how deeply values may nest in members that nobody knows.
const maxDepth = 100

// parser goes once through a line of JSON, checks all of it and keeps where the
// known members are. It exists for its pace: a log of many gigabytes is taken
// apart as fast as it comes from the disk, and no line goes unchecked.
type parser struct {
	text   []byte
	at     int
	simple bool // nothing but quotes ends or changes a text
}

// object reads the line, which must be one object and nothing else.
func (p *parser) object(known *[fields][]byte) error {
	if p.simple = simple(p.text); !p.simple && !utf8.Valid(p.text) {
		return ErrNotJSON
	}
	p.space()
	if !p.take('{') {
		return ErrNotJSON
	}
	p.space()
	if p.take('}') {
		return p.end()
	}
	for {
		p.space()
		name, ok := p.string()
		if !ok {
			return ErrNotJSON
		}
		p.space()
		if !p.take(':') {
			return ErrNotJSON
		}
		p.space()
		if err := p.member(name, known); err != nil {
			return err
		}
		p.space()
		if p.take(',') {
			continue
		}
		if !p.take('}') {
			return ErrNotJSON
		}
		return p.end()
	}
}

func (p *parser) end() error {
	p.space()
	if p.at != len(p.text) {
		return ErrNotJSON
	}
	return nil
}

// member reads the value of a member.
func (p *parser) member(name []byte, known *[fields][]byte) error {
	f, ok := field(name)
	if !ok {
		if f, ok = escapedField(name); !ok {
			if !p.value(0) {
				return ErrNotJSON
			}
			return nil
		}
	}
	if known[f] != nil {
		return ErrTwice
	}
	begin, first := p.at, p.peek()
	if f < texts && first == '"' {
		if known[f], ok = p.string(); !ok {
			return ErrNotJSON
		}
		return nil
	}
	strings, ok := p.list(f > numbers)
	if !ok {
		return ErrNotJSON
	}
	number := first == '-' || '0' <= first && first <= '9'
	if f < texts || f < numbers && !number || f > numbers && !strings {
		return ErrType
	}
	known[f] = p.text[begin:p.at]
	return nil
}

// escapedField finds a field whose name is written in a roundabout way: to
// other readers it is the same.
func escapedField(name []byte) (Field, bool) {
	if bytes.IndexByte(name, '\\') < 0 {
		return 0, false
	}
	return field([]byte(unescape(name)))
}

// list reads any value. It reports whether that is a list of texts, if it may
// be one.
func (p *parser) list(may bool) (strings, ok bool) {
	if !may || p.peek() != '[' {
		return false, p.value(0)
	}
	strings = true
	ok = p.elements(']', func() bool {
		strings = strings && p.peek() == '"'
		return p.value(1)
	})
	return strings, ok
}

// elements reads what stands between brackets, of which the first is next.
func (p *parser) elements(last byte, element func() bool) bool {
	p.at++
	p.space()
	if p.take(last) {
		return true
	}
	for {
		p.space()
		if !element() {
			return false
		}
		p.space()
		if p.take(',') {
			continue
		}
		return p.take(last)
	}
}

// value reads any value.
func (p *parser) value(depth int) bool {
	if depth > maxDepth {
		return false
	}
	switch p.peek() {
	case '"':
		_, ok := p.string()
		return ok
	case '[':
		return p.elements(']', func() bool { return p.value(depth + 1) })
	case '{':
		return p.elements('}', func() bool {
			if _, ok := p.string(); !ok {
				return false
			}
			p.space()
			if !p.take(':') {
				return false
			}
			p.space()
			return p.value(depth + 1)
		})
	case 't':
		return p.word("true")
	case 'f':
		return p.word("false")
	case 'n':
		return p.word("null")
	default:
		return p.number()
	}
}

// string reads a text and returns what stands between its quotes.
func (p *parser) string() (inner []byte, ok bool) {
	if !p.take('"') {
		return nil, false
	}
	begin := p.at
	if p.simple {
		n := bytes.IndexByte(p.text[begin:], '"')
		if n < 0 {
			return nil, false
		}
		p.at += n + 1
		return p.text[begin : begin+n : begin+n], true
	}
	for p.at < len(p.text) {
		b := p.text[p.at]
		if plain[b] {
			p.at++
			continue
		}
		switch {
		case b == '"':
			p.at++
			return p.text[begin : p.at-1 : p.at-1], true
		case b != '\\' || !p.escape():
			return nil, false
		}
	}
	return nil, false
}

// simple reports whether a line has only what shows of ASCII, and no backslash,
// as nearly all lines have: eight bytes at once.
func simple(text []byte) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; len(text) >= 8; text = text[8:] {
		word := binary.LittleEndian.Uint64(text)
		backslash := word ^ ones*'\\'
		if (word|(word-ones*' ')|(backslash-ones)&^backslash)&tops != 0 {
			return false
		}
	}
	for _, b := range text {
		if !plain[b] && b != '"' || b >= 0x80 {
			return false
		}
	}
	return true
}

// plain are the bytes that a text is made of and that say nothing of its end.
var plain = func() (set [256]bool) {
	for b := range set {
		set[b] = b >= ' ' && b != '"' && b != '\\'
	}
	return set
}()

func (p *parser) escape() bool {
	p.at++
	switch p.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		p.at++
		return true
	case 'u':
		p.at++
		for range 4 {
			b := p.peek()
			if !('0' <= b && b <= '9' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F') {
				return false
			}
			p.at++
		}
		return true
	}
	return false
}

func (p *parser) number() bool {
	p.take('-')
	if !p.take('0') && !p.digits() {
		return false
	}
	if p.take('.') && !p.digits() {
		return false
	}
	if p.take('e') || p.take('E') {
		_ = p.take('+') || p.take('-')
		return p.digits()
	}
	return true
}

func (p *parser) digits() bool {
	begin := p.at
	for b := p.peek(); '0' <= b && b <= '9'; b = p.peek() {
		p.at++
	}
	return p.at > begin
}

func (p *parser) word(w string) bool {
	if len(p.text)-p.at < len(w) || string(p.text[p.at:p.at+len(w)]) != w {
		return false
	}
	p.at += len(w)
	return true
}

func (p *parser) space() {
	for p.at < len(p.text) && p.text[p.at] <= ' ' {
		if b := p.text[p.at]; b != ' ' && b != '\t' && b != '\r' && b != '\n' {
			return
		}
		p.at++
	}
}

// peek returns the next byte, 0 at the end, which no JSON has outside of texts.
func (p *parser) peek() byte {
	if p.at == len(p.text) {
		return 0
	}
	return p.text[p.at]
}

func (p *parser) take(b byte) bool {
	if p.peek() != b || b == 0 {
		return false
	}
	p.at++
	return true
}
