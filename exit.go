package scopegate

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/scopegate/scopegate/credential"
)

// The exit codes of commands besides 0 and 1, so that a script can tell what
// merely failed from what will never do: a command that it spells wrongly, and
// what the gateway refused.
const (
	exitMisused = 2
	exitRefused = 3
	exitPartly  = 4
)

// exitCodes stands in the help of commands that ask a gateway.
const exitCodes = "Exit codes: 0 done, 1 failed, 2 called wrongly, 3 refused by the gateway, 4 done in part."

// misusedError says that a command was called in a way that it does not take.
type misusedError struct{ error }

func (*misusedError) exitCode() int { return exitMisused }

// Unwrap returns what is wrong with it.
func (m *misusedError) Unwrap() error { return m.error }

func misused(format string, args ...any) error { return &misusedError{fmt.Errorf(format, args...)} }

// partlyError says that something was changed, but not all that was asked for.
type partlyError struct{ text string }

// Error says how much was, and what to do.
func (p *partlyError) Error() string { return p.text }

func (*partlyError) exitCode() int { return exitPartly }

// strict gives a command, and those below it, their exit codes. Cobra and Caddy
// would end a command that is called wrongly as one that failed, and one that
// there is not, below another, as one that did well.
func strict(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
	takes, run := cmd.Args, cmd.RunE
	if takes == nil {
		takes = cobra.ArbitraryArgs
	}
	if cmd.HasSubCommands() {
		cmd.DisableFlagsInUseLine = true
		run = choose
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return end(cmd, &misusedError{badFlag(cmd, err)})
	})
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		// Flags too: Cobra looks at them later, and asks nobody about its errors.
		if err := cmp.Or(takes(cmd, args), cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()); err != nil {
			return end(cmd, &misusedError{err})
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return end(cmd, run(cmd, args)) }
}

// choose is what a command does that only has others below it.
func choose(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return &misusedError{noCommand(cmd, args[0])}
}

func noCommand(cmd *cobra.Command, name string) error {
	var known []string
	for _, sub := range cmd.Commands() {
		known = append(known, sub.Name())
	}
	return fmt.Errorf("there is no command %s%s", shown(name), didYouMean(name, known))
}

// badFlag names the nearest flag where there is none of that name. Where the
// command is misspelt, its flags are no mistake.
func badFlag(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return noCommand(cmd, cmd.Flags().Arg(0))
	}
	var none *pflag.NotExistError
	if !errors.As(err, &none) || none.GetSpecifiedShortnames() != "" {
		return err
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
	name := "--" + none.GetSpecifiedName()
	return fmt.Errorf("there is no flag %s%s", shown(name), didYouMean(name, known))
}

// end ends a command with the exit code that its error asks for.
func end(cmd *cobra.Command, err error) error {
	coded, ok := errors.AsType[interface {
		error
		exitCode() int
	}](err)
	switch {
	case !ok || coded.exitCode() == 1: // Caddy's main does
		return err
	case coded.exitCode() != exitMisused:
		return exit(cmd, coded.exitCode(), err)
	case strings.Contains(err.Error(), credential.Prefix):
		err = errKeyAsID // and do not repeat it
	}
	err = exit(cmd, exitMisused, err)
	fmt.Fprintf(cmd.ErrOrStderr(), "Usage: %s\nMore: %s --help\n", cmd.UseLine(), cmd.CommandPath())
	return err
}

func exit(cmd *cobra.Command, code int, err error) error {
	fmt.Fprintln(cmd.ErrOrStderr(), "Error:", err)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })(cmd, nil)
}
