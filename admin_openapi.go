package scopegate

import (
	_ "embed"
	"net/http"
)

// document describes the API in OpenAPI 3.0. A test holds it against the
// routes and against real answers.
//
//go:embed admin_openapi.json
var document []byte

func (c *call) showDocument() error {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(document)
	return nil
}
