package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/kimage"
)

// goldenImage is a kernel as gzip(1) made it.
const goldenImage = "../../internal/kimage/testdata/Image.gz"

func TestInspectImage(t *testing.T) {
	code, out, errOut := try(t, "inspect-image", goldenImage)
	if code != exitDone || errOut != "" {
		t.Fatalf("inspect-image = %d, %q", code, errOut)
	}
	for _, want := range []string{"gzip, Image, for riscv64", "6.12.107+deb13-riscv64", "kexec_load       yes: ", "kexec_file_load  yes: "} {
		if !strings.Contains(out, want) {
			t.Errorf("inspect-image said\n%s\nwithout %q", out, want)
		}
	}
	for line := range strings.Lines(out) {
		if len(line) > 81 {
			t.Errorf("a line of %d columns: %s", len(line)-1, line)
		}
	}
}

func TestInspectImageJSON(t *testing.T) {
	code, out, _ := try(t, "inspect-image", "--json", goldenImage)
	var got inspectedImage
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitDone {
		t.Fatalf("%d, %v: %s", code, err, out)
	}
	if got.Image.Kind != kimage.Flat || got.Image.Release != "6.12.107+deb13-riscv64" || !got.Fit.KexecLoad.Fit || got.Fit.KexecFileLoad.AsIs != nil {
		t.Errorf("inspect-image --json said %s", out)
	}
}

// What cannot be loaded is refused as load would.
func TestInspectImageRefuses(t *testing.T) {
	b, err := os.ReadFile(goldenImage)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(path, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errOut := try(t, "inspect-image", path)
	if code != exitRefused || out != "" || !strings.Contains(errOut, "truncated kernel image: gzip: ") || !strings.Contains(errOut, "\nhint: ") {
		t.Errorf("inspect-image = %d, %q, %q", code, out, errOut)
	}
	if code, _, _ := try(t, "inspect-image", filepath.Join(t.TempDir(), "nonesuch")); code != exitError {
		t.Errorf("inspect-image of nothing = %d; want %d", code, exitError)
	}
}

// Foreign text does not move the cursor, and long words stay whole.
func TestHang(t *testing.T) {
	long := strings.Repeat("x", 90)
	if got, want := hang("name", "a\x1b[2J b\tc "+long+" d", 6, 20), "name  a?[2J b c\n      "+long+"\n      d\n"; got != want {
		t.Errorf("hang = %q; want %q", got, want)
	}
	var b bytes.Buffer
	img := &kimage.Image{Kind: kimage.ELF, Machine: kimage.RISCV, Relocations: kimage.RelocationsStripped,
		Unified: &kimage.Unified{Cmdline: strings.Repeat("root=/dev/vda ", 20), InitrdSize: 5 << 20}}
	if err := writeImage(&b, "vmlinux", img, 80); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"and they are missing", "kexec_load       no: ", "5 MiB"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("a stripped vmlinux is\n%s\nwithout %q", b.String(), want)
		}
	}
}
