package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/vmcore/vmcoretest"
)

func TestReportPage(t *testing.T) {
	c := vmcoretest.New(0x80000000, 4<<20)
	c.SetVMCoreInfo(`OSRELEASE=6.12.0-test
PAGESIZE=4096
SYMBOL(swapper_pg_dir)=ffffffff81000000
NUMBER(VA_BITS)=48
NUMBER(PAGE_OFFSET)=0xffffaf8000000000
NUMBER(phys_ram_base)=2147483648
NUMBER(KERNEL_LINK_ADDR)=0xffffffff80000000
NUMBER(va_kernel_pa_offset)=0xfffffffeffe00000
`)
	in := c.WriteFile(t)
	out := filepath.Join(t.TempDir(), "crash.html")
	code, said, errOut := try(t, "report", "--html", out, in)
	page, err := os.ReadFile(out)
	if code != exitDone || said != "" || errOut != "" || err != nil || !strings.Contains(string(page), "6.12.0-test") {
		t.Fatalf("code %d, %q, %q, page of %d bytes, %v", code, said, errOut, len(page), err)
	}
	if st, err := os.Stat(out); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", st.Mode(), err)
	}
	if code, said, errOut := try(t, "report", "--html", "-", in); code != exitDone || said != string(page) || errOut != "" {
		t.Errorf("--html -: code %d, %d bytes, %q; want the same page", code, len(said), errOut)
	}

	refusedAsJSON(t, exitUsage, "report", "--json", "--html", out, in)
	if err := os.Link(in, in+".too"); err != nil {
		t.Fatal(err)
	}
	for _, same := range []string{in, in + ".too"} {
		before, err := os.ReadFile(in)
		if err != nil {
			t.Fatal(err)
		}
		code, said, errOut := try(t, "report", "--html", same, in)
		after, err := os.ReadFile(in)
		if code != exitUsage || said != "" || !strings.Contains(errOut, "would replace the dump") || err != nil || string(before) != string(after) {
			t.Errorf("onto the dump: code %d, %q, %q, %v", code, said, errOut, err)
		}
	}
	if code, _, errOut := try(t, "report", "--html", filepath.Join(out, "x"), in); code != exitError || errOut == "" {
		t.Errorf("where no file can be: code %d, %q", code, errOut)
	}
}
