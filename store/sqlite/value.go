package sqlite

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/scopegate/scopegate/store"
)

// clock returns the store's time, as exact as it is kept.
func clock() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// timestamp is a time in a column; the zero time is NULL.
type timestamp struct{ to *time.Time }

func (ts timestamp) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		*ts.to = time.Time{}
	case int64:
		*ts.to = time.UnixMicro(v).UTC()
	default:
		return fmt.Errorf("%w: a time is stored as %T", store.ErrCorrupt, value)
	}
	return nil
}

// micros returns what is stored of a time.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// list is a list in a column. No list is NULL and not an empty one: the one
// narrows nothing, the other leaves nothing.
type list struct{ to *[]string }

func (l list) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		*l.to = nil
		return nil
	case string:
		if err := json.Unmarshal([]byte(v), l.to); err == nil && *l.to != nil {
			return nil
		}
	}
	return fmt.Errorf("%w: a list is not stored as one", store.ErrCorrupt)
}

// encoded returns what is stored of a list.
func encoded(l []string) (any, error) {
	if l == nil {
		return nil, nil
	}
	b, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	return string(b), nil
}
