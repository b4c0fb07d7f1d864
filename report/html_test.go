package report_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/panicroom-kdump/panicroom/report/reporttest"
)

func TestDraft(t *testing.T) {
	var b bytes.Buffer
	r := reporttest.Full(2000, 5000, 64)
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	os.WriteFile("page-sample.html", b.Bytes(), 0o600)
	b.Reset()
	r.WriteText(&b, 80)
	os.WriteFile("page-sample.txt", b.Bytes(), 0o600)
}
