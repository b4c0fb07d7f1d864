package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/inspect"
)

func newRd(c *command) *cobra.Command {
	var (
		of subject
		q  inspect.Read
	)
	cmd := &cobra.Command{
		Use:   "rd CRASH ADDRESS [COUNT]",
		Short: "memory as it is",
		Long: `Print memory as words of 64 bits, or others, and as text. ADDRESS is a number in
hexadecimal, or a symbol, with +OFFSET or without; of a per-CPU variable
SYMBOL:CPU. COUNT is how many words there are.`,
		Example: `  panicroom rd vmcore jiffies 1
  panicroom rd vmcore ffffffff81600000 32
  panicroom rd vmcore --text linux_banner 128
  panicroom rd vmcore --physical 80200000`,
		Args: of.args(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			crash, rest := of.cut(args)
			q.At = rest[0]
			if !slices.Contains(inspect.Widths(), q.Bits) {
				return usage(cmd, fmt.Errorf("--bits %d is none of %v", q.Bits, inspect.Widths()))
			}
			if len(rest) > 1 {
				var err error
				if q.Count, err = strconv.ParseUint(rest[1], 0, 32); err != nil || q.Count == 0 {
					return usage(cmd, fmt.Errorf("%q is no number of words", rest[1]))
				}
			}
			return c.ask(cmd.Context(), &of, crash, q)
		},
	}
	of.flag(cmd)
	f := cmd.Flags()
	f.IntVarP(&q.Bits, "bits", "b", 64, "words of `N` bits: 8, 16, 32 or 64")
	f.BoolVarP(&q.Symbols, "symbols", "s", false, "say which symbols words point to")
	f.BoolVarP(&q.Text, "text", "a", false, "text alone")
	f.BoolVarP(&q.Physical, "physical", "p", false, "ADDRESS is a physical one")
	return cmd
}
