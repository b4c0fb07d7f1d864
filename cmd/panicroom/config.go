package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/internal/config"
)

// configFlag gives a verb --config; what is returned reads the configuration.
func configFlag(cmd *cobra.Command) func() (*config.Config, error) {
	file := cmd.Flags().String("config", config.File, "configured in `FILE`")
	return func() (*config.Config, error) { return config.Load(*file) }
}

func newConfig(c *command) *cobra.Command {
	var shipped bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "check the configuration and print what is in force",
		Long: `Read /etc/panicroom.toml and /etc/panicroom.d/*.toml, check them, and print the
whole configuration, defaults included, as a file that means the same. All that
is wrong is told with its place, and the exit code is 9 then. With --config
FILE.toml the files are that one and FILE.d/*.toml.

man panicroom.toml has every key. Flags of the other commands win over the file.`,
		Example: `  panicroom config                          after an edit
  panicroom config --json | jq .target
  panicroom config --shipped                every key, explained in comments`,
		Args: args(cobra.NoArgs),
	}
	configured := configFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		if shipped {
			_, err := fmt.Fprint(c.stdout, config.Shipped)
			return err
		}
		conf, err := configured()
		if err != nil {
			return err
		}
		if c.json {
			enc := json.NewEncoder(c.stdout)
			enc.SetIndent("", "  ")
			return enc.Encode(conf)
		}
		from := "there is no file: all is default"
		if len(conf.Files) > 0 {
			from = "from " + strings.Join(conf.Files, ", ")
		}
		fmt.Fprintf(c.stdout, "# %s\n\n", from)
		return conf.WriteTOML(c.stdout)
	}
	cmd.Flags().BoolVar(&shipped, "shipped", false, "print the file that is shipped, with its comments")
	return cmd
}
