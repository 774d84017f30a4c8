package scopegate

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/scopegate/scopegate/metrics"
	"github.com/scopegate/scopegate/scopes"
)

func init() {
	caddy.RegisterModule(Admin{})
}

// Admin shows the running gateways on Caddy's admin endpoint:
//
//	GET /scopegate/          the names of the gateways
//	GET /scopegate/{name}    one gateway: its health, teams and grants
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
	return []caddy.AdminRoute{
		{Pattern: "GET /scopegate/{$}", Handler: caddy.AdminHandlerFunc(listGateways)},
		{Pattern: "GET /scopegate/{name}", Handler: caddy.AdminHandlerFunc(showGateway)},
	}
}

func listGateways(w http.ResponseWriter, _ *http.Request) error {
	names := []string{}
	for _, g := range gateways() {
		names = append(names, g.Name)
	}
	return writeJSON(w, map[string]any{"gateways": names})
}

func showGateway(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	g, ok := gateway(name)
	if !ok {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("no gateway %q runs", name)}
	}
	return writeJSON(w, g.status())
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
}

type teamStatus struct {
	Name        string             `json:"name"`
	Scopes      []string           `json:"scopes"`
	Mintable    []string           `json:"mintable_scopes"`
	Credentials []credentialStatus `json:"credentials"`
}

type credentialStatus struct {
	Name   string   `json:"name"`
	IDs    []string `json:"ids"`
	State  string   `json:"state"`
	Scopes []string `json:"scopes"`
}

// status is what an operator may see of a running gateway.
func (g *Gateway) status() gatewayStatus {
	s := gatewayStatus{
		Name: g.Name, Upstream: g.Upstream.URL, InferredOps: g.InferredOperations,
		Problems: []string{}, Notes: append([]string{}, g.rules.notes...),
	}
	for _, err := range []error{g.forward.Ready(), g.log.Healthy()} {
		if err != nil {
			s.Problems = append(s.Problems, err.Error())
		}
	}
	s.Ready = len(s.Problems) == 0
	s.Catalogue = scopes.Version()
	for _, t := range g.rules.teams {
		team := teamStatus{Name: t.Name, Scopes: t.Scopes.Names(), Mintable: []string{}, Credentials: []credentialStatus{}}
		if t.Mint != nil {
			team.Mintable = t.Mint.Scopes.Names()
		}
		for _, c := range g.rules.credentials {
			if c.Identity.Team != t {
				continue
			}
			view := credentialStatus{Name: c.Identity.Name, State: c.State.String(), Scopes: c.Identity.Scopes.Names()}
			for _, v := range c.Verifiers {
				view.IDs = append(view.IDs, v.ID)
			}
			team.Credentials = append(team.Credentials, view)
		}
		s.Teams = append(s.Teams, team)
	}
	return s
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// Interface guards.
var (
	_ caddy.Provisioner = (*Admin)(nil)
	_ caddy.AdminRouter = (*Admin)(nil)
)
