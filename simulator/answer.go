package simulator

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
)

// Shape is how a list or an object stands in an answer. What the token
// operations answer is documented only as "object", and lists of other
// resources are declared so too but shown as arrays.
type Shape uint8

// The three shapes. Messages and errors are never wrapped.
const (
	Bare  Shape = iota // [...] and {...}
	Data               // {"data": [...]} and {"data": {...}}
	Items              // {"items": [...]} and {"item": {...}}
)

// Answer is one answer before it is sent.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Send writes the answer, with a Content-Length.
func (a Answer) Send(w http.ResponseWriter) {
	a.start(w, len(a.Body))
	_, _ = w.Write(a.Body) // whoever is gone does not read the answer
}

// start writes the status and headers. A status that allows no body gets no
// length either, and net/http drops the body.
func (a Answer) start(w http.ResponseWriter, length int) {
	maps.Copy(w.Header(), a.Header)
	if a.Status >= 200 && a.Status != http.StatusNoContent && a.Status != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.Itoa(length))
	}
	w.WriteHeader(a.Status)
}

// reply is what an action answers, before it has a shape.
type reply struct {
	status int
	value  any
	kind   replyKind
}

type replyKind uint8

const (
	plainReply replyKind = iota // never wrapped
	objectReply
	listReply
)

func listOf(values []any) reply { return reply{http.StatusOK, values, listReply} }
func object(value any) reply    { return reply{http.StatusOK, value, objectReply} }

// created is the answer of every create operation: 200, not 201.
func created(id, noun string) reply {
	return object(map[string]any{"created_id": id, "message": noun + " created successfully"})
}

func said(message string) reply {
	return reply{http.StatusOK, map[string]any{"message": message}, plainReply}
}

func failed(status int, code, description string) reply {
	return reply{status, map[string]any{"error": code, "error_description": description}, plainReply}
}

func notFound(noun string) reply {
	return failed(http.StatusNotFound, "not_found", noun+" not found")
}

func conflict(description string) reply {
	return failed(http.StatusConflict, "conflict", description)
}

// invalid tells which field is wrong, and never repeats a value: it may be a
// password.
func invalid(description string) reply {
	return failed(http.StatusBadRequest, "validation_error", description)
}

func (s *Simulator) render(r reply) Answer {
	value := r.value
	switch {
	case r.kind == plainReply || s.shape == Bare:
	case s.shape == Data:
		value = map[string]any{"data": value}
	case r.kind == listReply:
		value = map[string]any{"items": value}
	default:
		value = map[string]any{"item": value}
	}
	body, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("simulator: encoding an answer: %v", err)) // a mistake of this source tree
	}
	// Headers that a web application sends and a gateway has no use for, so
	// that one which relays them is found out.
	return Answer{Status: r.status, Body: body, Header: http.Header{
		"Content-Type":                {"application/json"},
		"Cache-Control":               {"no-cache, private"},
		"Set-Cookie":                  {"session=simulated; HttpOnly"},
		"X-Powered-By":                {"simulator"},
		"Access-Control-Allow-Origin": {"*"},
	}}
}
