package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/inspect"
)

func newDis(c *command) *cobra.Command {
	var (
		of subject
		q  inspect.Code
	)
	cmd := &cobra.Command{
		Use:   "dis CRASH FUNCTION|ADDRESS [COUNT]",
		Short: "instructions of a function or at an address",
		Long: `Print instructions as an assembler reads them: those of a function, or COUNT of
them from an address on, which is a number in hexadecimal or a symbol, with
+OFFSET or without. Modules have theirs as they are in memory, with all that was
patched.`,
		Example: `  panicroom dis vmcore schedule
  panicroom dis vmcore panic+0x1c 8
  panicroom dis --until vmcore ffffffff80a74f36   up to that one
  panicroom dis --live --function vfs_read+0x10`,
		Args: of.args(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			crash, rest := of.cut(args)
			q.At = rest[0]
			if q.Function && q.Until {
				return usage(cmd, errors.New("--function and --until exclude each other"))
			}
			if len(rest) > 1 {
				var err error
				if q.Count, err = strconv.Atoi(rest[1]); err != nil || q.Count < 1 {
					return usage(cmd, fmt.Errorf("%q is no number of instructions", rest[1]))
				}
			}
			return c.ask(cmd.Context(), &of, crash, q)
		},
	}
	of.flag(cmd)
	f := cmd.Flags()
	f.BoolVarP(&q.Function, "function", "f", false, "all of the function that ADDRESS is in")
	f.BoolVarP(&q.Until, "until", "r", false, "the function from its beginning to ADDRESS")
	return cmd
}
