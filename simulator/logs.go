package simulator

import (
	"time"
)

// entry is one line of a log, with what it can be filtered by.
type entry struct {
	at                      string // Y-m-d H:i:s
	member, gateway, system string
	value                   any
}

// queryForm says where a log's filter has its times and its paging.
type queryForm uint8

const (
	eitherQuery queryForm = iota // not documented: both are understood
	flatQuery                    // start, end, page, limit
	nestedQuery                  // date.start, date.stop, pagination.page, pagination.limit
)

// logbook is one of the five logs.
type logbook struct {
	form    queryForm
	entries []*entry // oldest first
}

// maxEntries bounds a log that grows; the oldest lines go.
const maxEntries = 1000

// defaultLimit is the page size where a query names none; the API's is
// unknown.
const defaultLimit = 50

func (l *logbook) add(e *entry) {
	l.entries = append(l.entries, e)
	if len(l.entries) > maxEntries {
		l.entries = l.entries[1:]
	}
}

// logQuery is the filter, the JSON body of a GET.
type logQuery struct {
	MemberID  string `json:"member_id"`
	GatewayID string `json:"gateway_id"`
	SystemID  string `json:"system_id"`

	Start string `json:"start"`
	End   string `json:"end"`
	Page  int    `json:"page"`
	Limit int    `json:"limit"`

	Date struct {
		Start string `json:"start"`
		Stop  string `json:"stop"`
	} `json:"date"`
	Pagination struct {
		Page  int `json:"page"`
		Limit int `json:"limit"`
	} `json:"pagination"`
}

// settle moves what the form allows to Start, End, Page and Limit.
func (q *logQuery) settle(form queryForm) {
	nested := form == nestedQuery ||
		form == eitherQuery && q.Start == "" && q.End == "" && q.Page == 0 && q.Limit == 0
	if nested {
		q.Start, q.End = q.Date.Start, q.Date.Stop
		q.Page, q.Limit = q.Pagination.Page, q.Pagination.Limit
	}
	if q.Page < 1 {
		q.Page = 1
	}
	if q.Limit < 1 {
		q.Limit = defaultLimit
	}
}

func (l *logbook) list(c *call) reply {
	var q logQuery
	if err := decode(c.body, &q); err != nil {
		return invalid(err.Error())
	}
	q.settle(l.form)
	for _, at := range []string{q.Start, q.End} {
		if _, err := time.Parse(time.DateTime, at); at != "" && err != nil {
			return invalid("a time is not of the form Y-m-d H:i:s")
		}
	}
	found := []any{}
	for _, e := range l.entries {
		if e.passes(q) {
			found = append(found, e.value)
		}
	}
	if q.Page-1 > len(found)/q.Limit { // before the product can overflow
		return listOf([]any{})
	}
	from := min((q.Page-1)*q.Limit, len(found))
	return listOf(found[from : from+min(q.Limit, len(found)-from)])
}

// passes compares times as texts, which this form of them allows.
func (e *entry) passes(q logQuery) bool {
	return (q.Start == "" || e.at >= q.Start) && (q.End == "" || e.at <= q.End) &&
		(q.MemberID == "" || e.member == q.MemberID) &&
		(q.GatewayID == "" || e.gateway == q.GatewayID) &&
		(q.SystemID == "" || e.system == q.SystemID)
}

// session is one line of the gateway log.
type session struct {
	Protocol   string  `json:"protocol"`
	Start      string  `json:"start"`
	Stop       *string `json:"stop"` // null while it is open
	Uploaded   int     `json:"uploaded_bytes"`
	Downloaded int     `json:"downloaded_bytes"`
	User       logUser `json:"user"`
	Gateway    gateway `json:"gateway"`
}

type logUser struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Username string `json:"username"`
}

// noteChange writes a change that was carried out to the admin log.
func (w *world) noteChange(operation string, c *call) {
	at := c.now.Format(time.DateTime)
	ids := c.ids
	if ids == nil {
		ids = []string{}
	}
	w.adminLog.add(&entry{at: at, value: map[string]any{
		"timestamp": at, "operation": operation, "object_ids": ids,
		"token_id": c.by.id, "token_name": c.by.name,
	}})
}
