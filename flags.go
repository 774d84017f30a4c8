package scopegate

import (
	"errors"
	"time"
)

// dateFlag is a flag that takes a date, which is its first moment in UTC, or a
// time, as the Caddyfile does.
type dateFlag struct{ Date }

// Set reads what was given.
func (d *dateFlag) Set(text string) error { return d.UnmarshalText([]byte(text)) }

// String is the moment as the admin API takes it, empty where none was given.
func (d *dateFlag) String() string {
	if d.IsZero() {
		return ""
	}
	return d.At.UTC().Format(time.RFC3339Nano)
}

// Type stands in the help.
func (*dateFlag) Type() string { return "date" }

// spanFlag is a flag that takes a length of time.
type spanFlag struct {
	span
	orNone bool // zero will do
}

// Set reads what was given.
func (s *spanFlag) Set(text string) error {
	err := s.UnmarshalText([]byte(text))
	if err == nil && (s.Duration < 0 || s.Duration == 0 && !s.orNone) {
		return errors.New("it must be above zero")
	}
	return err
}

// String is the span as the admin API takes it, empty where none was given.
func (s *spanFlag) String() string {
	if !s.given {
		return ""
	}
	return s.Duration.String()
}

// Type stands in the help.
func (*spanFlag) Type() string { return "duration" }
