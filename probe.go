package scopegate

import (
	"io"
	"net/http"
	"time"
)

// serveProbe answers the two probes, which need no credential and tell no
// detail. Ready means that the master token is loaded, the audit log can be
// written and the store was heard from within its grace, never that the
// upstream answers: a fleet must not take itself out of service when GoodAccess
// is down.
func (g *Gateway) serveProbe(w http.ResponseWriter, r *http.Request) bool {
	ready := true
	switch r.URL.EscapedPath() {
	case "/_scopegate/livez":
	case "/_scopegate/readyz":
		ready = g.forward.Ready() == nil && g.log.Healthy() == nil && g.room.fresh(time.Now())
	default:
		return false
	}
	h := w.Header()
	h["Cache-Control"], h["Content-Type"] = noStore, []string{"text/plain; charset=utf-8"}
	status, body := http.StatusOK, "ok\n"
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		status, body = http.StatusMethodNotAllowed, "method not allowed\n"
	case !ready:
		status, body = http.StatusServiceUnavailable, "not ready\n"
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
	return true
}
