// Command scopegate is Caddy with its standard modules and the scopegate
// module. Besides Caddy's own commands (run, reload, validate, ...) it has
// those of `caddy scopegate` at its top, and two that no production build
// needs: demo and simulate.
package main

import (
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate"
	"github.com/scopegate/scopegate/buildinfo"
)

func main() {
	if os.Getenv("GOGC") == "" {
		paceCollector()
	}
	caddy.CustomBinaryName = "scopegate"
	caddy.CustomVersion = "scopegate " + buildinfo.Version() + ", Caddy" // before Caddy's own, which `version` prints
	caddy.CustomLongDescription = `scopegate is a gateway before the GoodAccess API: Caddy with a module that holds
the master token and gives teams narrower credentials.

Try it with 'scopegate demo'. Make keys with 'scopegate key generate', see what a
configuration decides with 'scopegate explain', check it with 'scopegate check',
and run it as any Caddy: 'scopegate run --config Caddyfile'.`
	for _, cmd := range scopegate.Commands(demoCommand(), simulateCommand()) {
		lift(cmd)
	}
	caddycmd.Main()
}

// lift offers a command at the top of the binary. Caddy makes the command
// itself and lets it be filled.
func lift(cmd *cobra.Command) {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name: cmd.Name(), Short: cmd.Short,
		CobraFunc: func(into *cobra.Command) {
			below := cmd.Commands()
			cmd.RemoveCommand(below...) // they would go on as commands of cmd, which has no name before it
			*into = *cmd
			into.AddCommand(below...)
		},
	})
}

// say prints a line to the command's standard output.
func say(cmd *cobra.Command, format string, args ...any) {
	fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...)
}
