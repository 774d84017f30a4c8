package scopegate

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/scopegate/scopegate/credential"
	"github.com/scopegate/scopegate/fleet"
	"github.com/scopegate/scopegate/metrics"
	"github.com/scopegate/scopegate/scopes"
	"github.com/scopegate/scopegate/store"
)

func init() {
	caddy.RegisterModule(Admin{})
}

// Admin is what operators see of the running gateways, and do to their stored
// credentials, on Caddy's admin endpoint under /scopegate/. Its description in
// OpenAPI is served at /scopegate/openapi.json.
//
// Whoever reaches that endpoint can read any file and variable of the process
// through it, and so the master token: keep it on a unix socket.
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.scopegate",
		New: func() caddy.Module { return new(Admin) },
	}
}

// Provision makes the gateways' metrics known to the configuration that the
// admin endpoint now belongs to. Where that configuration fails to load, the
// endpoint stays with it, and the gateways that run on would not be seen.
func (Admin) Provision(ctx caddy.Context) error {
	return metrics.Register(ctx.GetMetricsRegistry())
}

// Routes returns the routes. They look the gateways up at each request:
// after a reload that failed, the admin endpoint belongs to the failed
// configuration, but the gateways that run are still the old ones.
func (Admin) Routes() []caddy.AdminRoute {
	return adminAPI{
		names: func() []string {
			names := []string{}
			for _, g := range gateways() {
				names = append(names, g.Name)
			}
			return names
		},
		find: func(name string) (office, bool) {
			g, ok := gateway(name)
			return g, ok
		},
	}.routes()
}

// office is where the credentials of a gateway are looked after: a gateway
// that runs, or, for a command without one, its store alone.
type office interface {
	// compiled is what the configuration says.
	compiled() *compiled
	// change makes one change of a credential, recorded before it is made.
	change(do func(*credential.Registry) (store.Credential, error)) (store.Credential, error)
	// read asks for credentials.
	read(do func(*credential.Registry) error) error
	// cascade has the tokens deleted that a credential made.
	cascade(ctx context.Context, credential, cause string) (owed int, err error)
	// ledgerRows asks for upstream tokens.
	ledgerRows(do func(rows) error) error
	// replicas are the processes that serve the gateway, and the store's time.
	replicas(ctx context.Context) ([]store.Replica, time.Time, error)
	// wait returns once every replica has seen a revision or serves no more.
	wait(ctx context.Context, revision int64, progress func(fleet.Report)) (fleet.Report, error)
}

// adminAPI is the API over the gateways that it finds.
type adminAPI struct {
	names func() []string
	find  func(name string) (office, bool)
}

// call is one request of the API.
type call struct {
	w   http.ResponseWriter
	r   *http.Request
	api adminAPI

	name   string // of the gateway; empty where the route has none
	office office
}

type adminRoute struct {
	pattern string
	serve   func(*call) error
}

const ofGateway = " /scopegate/{gateway}"

// adminRoutes are all routes. Each stands in the OpenAPI document too.
func adminRoutes() []adminRoute {
	list := []adminRoute{
		{"GET /scopegate/{$}", (*call).listGateways},
		{"GET /scopegate/openapi.json", (*call).showDocument},
		{"GET" + ofGateway, (*call).showGateway},
		{"GET" + ofGateway + "/health", (*call).showHealth},
		{"GET" + ofGateway + "/teams", (*call).listTeams},
		{"GET" + ofGateway + "/teams/{team}", (*call).showTeam},
		{"POST" + ofGateway + "/teams/{team}/drain", (*call).drainTeam},
		{"GET" + ofGateway + "/tokens", (*call).listTokens},
		{"GET" + ofGateway + "/tokens/{id}", (*call).showToken},
		{"POST" + ofGateway + "/tokens/{id}/revoke", (*call).revokeToken},
		{"POST" + ofGateway + "/tokens:revoke", (*call).revokeTokens},
		{"POST" + ofGateway + "/tokens:adopt", (*call).adoptToken},
		{"POST" + ofGateway + "/tokens:reconcile", (*call).reconcile},
		{"GET" + ofGateway + "/debt", (*call).listDebt},
		{"GET" + ofGateway + "/replicas", (*call).listReplicas},
		{"POST" + ofGateway + "/wait", (*call).wait},
		{"GET" + ofGateway + "/credentials", (*call).listCredentials},
		{"POST" + ofGateway + "/credentials", (*call).createCredential},
		{"POST" + ofGateway + "/credentials:bulk", (*call).bulk},
		{"GET" + ofGateway + "/credentials/{id}", (*call).showCredential},
	}
	for _, kind := range changeKinds {
		list = append(list, adminRoute{
			"POST" + ofGateway + "/credentials/{id}/" + kind,
			func(c *call) error { return c.changeCredential(kind) },
		})
	}
	return list
}

func (a adminAPI) routes() []caddy.AdminRoute {
	known := http.NewServeMux() // to tell a wrong method from a wrong path
	var list []caddy.AdminRoute
	for _, route := range adminRoutes() {
		known.Handle(route.pattern, http.NotFoundHandler())
		list = append(list, caddy.AdminRoute{Pattern: route.pattern, Handler: a.handler(route.serve)})
	}
	stray := func(c *call) error { return c.stray(known) }
	return append(list, caddy.AdminRoute{Pattern: "/scopegate/", Handler: a.handler(stray)})
}

// handler answers failures too: Caddy's own answers to them are no problem
// documents.
func (a adminAPI) handler(serve func(*call) error) caddy.AdminHandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "no-store")
		c := &call{w: w, r: r, api: a, name: r.PathValue("gateway")}
		err := c.enter()
		if err == nil {
			err = serve(c)
		}
		if err != nil {
			c.fail(err)
		}
		return nil
	}
}

// enter finds the gateway that the path names.
func (c *call) enter() error {
	if c.name == "" {
		return nil
	}
	var ok bool
	if c.office, ok = c.api.find(c.name); ok {
		return nil
	}
	return missing(kindUnknownGateway, "no gateway %s runs", c.name, c.api.names())
}

// stray answers what no route is for.
func (c *call) stray(known *http.ServeMux) error {
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		r := c.r.Clone(c.r.Context())
		r.Method = method
		if _, pattern := known.Handler(r); pattern != "" {
			allow = append(allow, method)
		}
	}
	if allow == nil {
		return &problemError{Kind: kindUnknownRoute, Detail: "there is no such path; GET /scopegate/openapi.json tells of all"}
	}
	c.w.Header().Set("Allow", strings.Join(allow, ", "))
	return &problemError{Kind: kindMethod, Detail: "the path takes " + strings.Join(allow, " and ")}
}

func (c *call) listGateways() error {
	return c.reply(http.StatusOK, map[string]any{"gateways": c.api.names()})
}

func (c *call) showGateway() error {
	g, err := c.running()
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, g.status())
}

// running returns the gateway itself, for what only one that runs can tell.
func (c *call) running() (*Gateway, error) {
	if g, ok := c.office.(*Gateway); ok {
		return g, nil
	}
	return nil, errNotRunning
}

// reply sends an answer.
func (c *call) reply(status int, v any) error {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	enc := json.NewEncoder(c.w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // only the connection can fail: then nobody reads it
	return nil
}

// compiled is what the gateway's configuration says.
func (g *Gateway) compiled() *compiled { return g.rules }

// read asks for credentials, under this configuration's policy.
func (g *Gateway) read(do func(*credential.Registry) error) error {
	if g.room == nil {
		return errNoStore
	}
	if !g.inside.enter() {
		return errRetired
	}
	defer g.inside.leave()
	return do(g.registry(nil))
}

type gatewayStatus struct {
	Name        string       `json:"name"`
	Upstream    string       `json:"upstream"`
	Ready       bool         `json:"ready"`
	Problems    []string     `json:"problems"`
	Catalogue   string       `json:"catalogue"`
	Teams       []teamStatus `json:"teams"`
	Notes       []string     `json:"notes"`
	InferredOps bool         `json:"inferred_operations"`
	Coalesce    bool         `json:"coalesce"`
	AuditKey    string       `json:"audit_key"` // public
}

// status is what an operator may see of a running gateway.
func (g *Gateway) status() gatewayStatus {
	s := gatewayStatus{
		Name: g.Name, Upstream: g.Upstream.URL, InferredOps: g.InferredOperations, Coalesce: g.Coalesce,
		Problems: []string{}, Notes: append([]string{}, g.rules.notes...),
		Catalogue: scopes.Version(), Teams: g.rules.teamStatuses(),
		AuditKey: g.logFile.Keys().Public(),
	}
	for _, check := range g.health() {
		if check.Problem != "" {
			s.Problems = append(s.Problems, check.Problem)
		}
	}
	slices.Sort(s.Problems)
	s.Ready = len(s.Problems) == 0
	return s
}

// Interface guards.
var (
	_ caddy.Provisioner = (*Admin)(nil)
	_ caddy.AdminRouter = (*Admin)(nil)
	_ office            = (*Gateway)(nil)
)
