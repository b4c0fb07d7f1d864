package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// args makes a cobra check of the arguments say what is wrong in our way.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		err := check(cmd, given)
		if err == nil {
			return nil
		}
		if cmd.HasSubCommands() && len(given) > 0 {
			return unknownVerb(cmd, given[0])
		}
		takes := "it is " + cmd.CommandPath() + strings.TrimPrefix(cmd.Use, cmd.Name())
		if cmd.Use == cmd.Name() {
			takes = cmd.CommandPath() + " takes no arguments"
		}
		switch len(given) {
		case 0:
			err = fmt.Errorf("%s, and no argument was given", takes)
		case 1:
			err = fmt.Errorf("%s, and %q was given", takes, given[0])
		default:
			err = fmt.Errorf("%s, and %d arguments were given: %q", takes, len(given), given)
		}
		return usage(cmd, err)
	}
}

// unknownVerb is the error of a verb that cmd does not have.
func unknownVerb(cmd *cobra.Command, name string) error {
	var verbs []string
	for _, verb := range cmd.Commands() {
		verbs = append(verbs, verb.Name())
	}
	var hints []string
	if meant := ui.Like(name, verbs); meant != "" {
		hints = append(hints, fmt.Sprintf("did you mean %s %s?", cmd.CommandPath(), meant))
	}
	return usage(cmd, fmt.Errorf("%s has no command %q", cmd.CommandPath(), name), hints...)
}

// usage marks err as the fault of the command line and says where help is.
func usage(cmd *cobra.Command, err error, hints ...string) error {
	return ui.Hint(fmt.Errorf("%w: %w", ui.ErrUsage, err),
		append(hints, fmt.Sprintf("%s --help shows flags and examples", cmd.CommandPath()))...)
}

// flagError says in our words what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		return unknownFlag(cmd, e)
	}
	e, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return usage(cmd, err)
	}
	why := e.Unwrap()
	if _, ok := errors.AsType[*strconv.NumError](why); ok {
		why = errors.New("that is no number")
		if e.GetFlag().Value.Type() == "bool" {
			why = errors.New("that is neither true nor false")
		}
	}
	return usage(cmd, fmt.Errorf("--%s %q: %w", e.GetFlag().Name, e.GetValue(), why))
}

// unknownFlag is the error of a flag that cmd does not have.
func unknownFlag(cmd *cobra.Command, e *pflag.NotExistError) error {
	name := e.GetSpecifiedName()
	if letters := e.GetSpecifiedShortnames(); len(letters) > 1 {
		return usage(cmd, fmt.Errorf("%s has no flag -%s, as in -%s", cmd.CommandPath(), name, letters))
	} else if letters != "" {
		return usage(cmd, fmt.Errorf("%s has no flag -%s", cmd.CommandPath(), name))
	}
	var hints []string
	if meant := ui.Like(name, flagNames(cmd)); meant != "" {
		hints = append(hints, fmt.Sprintf("did you mean --%s?", meant))
	} else if others := verbsWith(cmd.Root(), name); len(others) > 0 {
		hints = append(hints, fmt.Sprintf("--%s is a flag of %s", name, strings.Join(others, ", ")))
	}
	return usage(cmd, fmt.Errorf("%s has no flag --%s", cmd.CommandPath(), name), hints...)
}

// flagNames are the flags that a person may give to a command.
func flagNames(cmd *cobra.Command) []string {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return names
}

// verbsWith are the commands below cmd that have a flag.
func verbsWith(cmd *cobra.Command, flag string) []string {
	var all []string
	for _, verb := range cmd.Commands() {
		if f := verb.Flags().Lookup(flag); f != nil && !f.Hidden && !verb.Hidden {
			all = append(all, verb.CommandPath())
		}
		all = append(all, verbsWith(verb, flag)...)
	}
	slices.Sort(all)
	return all
}

// wantsJSON tells whether a command line asks for JSON, also when something before
// that is wrong.
func wantsJSON(words []string) bool {
	for _, word := range words {
		switch word {
		case "--":
			return false
		case "--json", "--json=true":
			return true
		}
	}
	return false
}
