package scopegate

import _ "embed"

// ExampleCaddyfile is caddyfile.example: a sidecar for two teams, with what
// differs from place to place in environment variables.
//
//go:embed caddyfile.example
var ExampleCaddyfile []byte
