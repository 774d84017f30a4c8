package upstream

import (
	"bytes"
	"io"
)

// Kept is an answer in memory, for any number of callers. Nobody may change its
// body.
type Kept struct {
	head Response
	body []byte
}

// Keep reads an answer to its end and into memory, where it is no larger than
// the limit. One that is larger comes back as rest, to be read from its
// beginning and closed. r itself is used up in either case; an error of reading
// is of type *Error.
func (r *Response) Keep(limit int64) (kept *Kept, rest *Response, err error) {
	if r.ContentLength > limit {
		return nil, r, nil
	}
	head := Response{
		Status: r.Status, ContentType: r.ContentType, RetryAfter: r.RetryAfter, Date: r.Date,
		ContentLength: r.ContentLength,
	}
	read, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	switch {
	case err != nil:
		_ = r.Body.Close() // reading has said what is wrong
		return nil, nil, err
	case int64(len(read)) > limit:
		head.Body = &prefixed{io.MultiReader(bytes.NewReader(read), r.Body), r.Body}
		return nil, &head, nil
	}
	head.ContentLength = int64(len(read))
	return &Kept{head, read}, nil, r.Body.Close()
}

// Response is the answer for one of the callers.
func (k *Kept) Response() *Response {
	resp := k.head
	resp.Body = io.NopCloser(bytes.NewReader(k.body))
	return &resp
}

// prefixed is a body whose beginning was read before.
type prefixed struct {
	io.Reader
	io.Closer
}
