package dumpline

import (
	"flag"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/getopt/getopttest"
)

var update = flag.Bool("update", false, "write the options into the documents anew")

// The lists of options in the documents are made from the table.
func TestDocuments(t *testing.T) {
	getopttest.Documents(t, Program(), *update, "../../docs/makedumpfile.md", "../../man/makedumpfile-panicroom.8")
}

// The help shows every option, and fits a terminal.
func TestHelp(t *testing.T) { getopttest.Help(t, Program(), HelpText()) }
