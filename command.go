package scopegate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "scopegate",
		Usage: "<command>",
		Short: "Makes keys, explains decisions and checks gateways",
		Long:  "Commands of the scopegate module: keys, explanations of decisions, and a preflight of a configuration.",
		CobraFunc: func(cmd *cobra.Command) {
			cmd.AddCommand(commands()...)
			strict(cmd)
			pointToDocs(cmd)
			calledAs(cmd, cmp.Or(caddy.CustomBinaryName, "caddy")+" scopegate")
		},
	})
}

// Commands returns the sub-commands of `caddy scopegate`, so that a binary of
// our own can offer them at its top, and those that it has besides, which then
// end as these do.
func Commands(besides ...*cobra.Command) []*cobra.Command {
	list := append(commands(), besides...)
	for _, cmd := range list {
		strict(cmd)
		pointToDocs(cmd)
	}
	return list
}

// pointToDocs ends a command's help with where it is documented: Caddy's own ends
// with where Caddy's are.
func pointToDocs(cmd *cobra.Command) {
	cmd.SetHelpTemplate(new(cobra.Command).HelpTemplate() + "\nDocumentation: https://github.com/scopegate/scopegate/tree/main/docs\n")
}

// calledAs lets the examples call a command as this binary does.
func calledAs(cmd *cobra.Command, program string) {
	cmd.Example = strings.ReplaceAll(cmd.Example, "scopegate ", program+" ")
	for _, sub := range cmd.Commands() {
		calledAs(sub, program)
	}
}

func commands() []*cobra.Command {
	return []*cobra.Command{keyCommand(), tokenCommand(), teamCommand(), replicasCommand(), storeCommand(), explainCommand(), checkCommand(), healthCommand(), auditCommand()}
}

// fail ends a command with exit code 1 after it has already said why.
func fail(cmd *cobra.Command) error {
	cmd.SilenceErrors = true
	return errors.New("failed")
}

// configFlags are the flags of commands that read a configuration.
type configFlags struct {
	file, adapter, gateway string
	json                   bool
}

func (f *configFlags) add(cmd *cobra.Command) {
	configFlag(cmd, &f.file, "configuration file (required)")
	cmd.Flags().StringVarP(&f.adapter, "adapter", "a", "", "config adapter; default: caddyfile, unless the file ends in .json")
	cmd.Flags().StringVar(&f.gateway, "gateway", "", "name of the gateway, where the configuration has several")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	if f.file == "" {
		_ = cmd.MarkFlagRequired("config")
	}
}

// configVariable spares operators --config, which in production is always the
// same: the image sets it.
const configVariable = "SCOPEGATE_CONFIG"

func configFlag(cmd *cobra.Command, file *string, usage string) {
	cmd.Flags().StringVarP(file, "config", "c", os.Getenv(configVariable), usage+"; default: $"+configVariable)
}

// loaded is a gateway as a configuration file has it.
type loaded struct {
	*Gateway
	pointer string // JSON pointer of its handler
	config  *caddy.Config
}

// load reads every gateway of the configuration file.
func (f *configFlags) load() ([]loaded, error) {
	adapter := f.adapter
	if adapter == "" && !strings.HasSuffix(f.file, ".json") {
		adapter = "caddyfile"
	}
	raw, err := os.ReadFile(f.file)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if adapter != "" {
		a := caddyconfig.GetAdapter(adapter)
		if a == nil {
			return nil, misused("--adapter: there is no config adapter %q", adapter)
		}
		if raw, _, err = a.Adapt(raw, map[string]any{"filename": f.file}); err != nil {
			return nil, err
		}
	}
	config := new(caddy.Config)
	if err := json.Unmarshal(raw, config); err != nil {
		return nil, fmt.Errorf("reading %s: %w", f.file, err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("reading %s: %w", f.file, err)
	}
	var found []loaded
	var names []string
	err = walk(tree, "", func(pointer string, handler map[string]any) error {
		g, err := decodeGateway(handler)
		if err != nil {
			return fmt.Errorf("%s: %w", pointer, err)
		}
		names = append(names, g.Name)
		if f.gateway == "" || f.gateway == g.Name {
			found = append(found, loaded{g, pointer, config})
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0 && len(names) > 0:
		return nil, fmt.Errorf("in %s: %w", f.file, unknown("gateway", f.gateway, names))
	case len(found) == 0:
		return nil, fmt.Errorf("no gateway in %s: it has no `scopegate` block", f.file)
	}
	return found, nil
}

// walk visits every scopegate handler in a JSON document.
func walk(v any, pointer string, visit func(string, map[string]any) error) error {
	switch v := v.(type) {
	case map[string]any:
		if v["handler"] == "scopegate" {
			return visit(pointer, v)
		}
		for key, child := range v {
			key = strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
			if err := walk(child, pointer+"/"+key, visit); err != nil {
				return err
			}
		}
	case []any:
		for i, child := range v {
			if err := walk(child, pointer+"/"+strconv.Itoa(i), visit); err != nil {
				return err
			}
		}
	}
	return nil
}

func decodeGateway(handler map[string]any) (*Gateway, error) {
	delete(handler, "handler")
	raw, err := json.Marshal(handler)
	if err != nil {
		return nil, err
	}
	g := new(Gateway)
	if err := caddy.StrictUnmarshalJSON(raw, g); err != nil {
		return nil, err
	}
	if g.Name == "" {
		g.Name = "default"
	}
	return g, nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
