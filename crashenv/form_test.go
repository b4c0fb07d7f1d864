package crashenv

import (
	"testing"

	"github.com/panicroom-kdump/panicroom/capture"
)

func TestForm(t *testing.T) {
	for f, ok := range map[Form]bool{
		{}:                          true,
		{Format: capture.FormatELF}: true,
		{Format: capture.FormatKdump, Compression: "lzo"}: true,
		{Compression: "none"}:                             true,
		{Format: capture.FormatRaw}:                       false,
		{Format: "tar"}:                                   false,
		{Compression: "gzip"}:                             false,
	} {
		if err := f.Check(); (err == nil) != ok {
			t.Errorf("%+v: %v", f, err)
		}
		p := testPlan()
		p.Form = f
		if err := p.check(); (err == nil) != ok {
			t.Errorf("plan with %+v: %v", f, err)
		}
	}
}
