package kimage

import (
	"bytes"
	"strings"
	"testing"
)

// withConfig is the image of the tests with its configuration in it.
func withConfig(t testing.TB, text string) []byte {
	t.Helper()
	b := image()
	copy(b[0x2000:], "IKCFG_ST\x1f\x8bnot really")
	copy(b[0x3000:], "IKCFG_ST"+string(compress(t, "gzip", strings.NewReader(text)))+"IKCFG_ED")
	return b
}

func TestConfig(t *testing.T) {
	img, err := inspect(withConfig(t, "# Linux\nCONFIG_RD_GZIP=y\nCONFIG_NAME=\"a=b\"\n# CONFIG_RD_XZ is not set\n"))
	if err != nil {
		t.Fatal(err)
	}
	c := img.Config()
	if c["CONFIG_RD_GZIP"] != "y" || c["CONFIG_NAME"] != `"a=b"` || c.Off("CONFIG_RD_GZIP") || !c.Off("CONFIG_RD_XZ") {
		t.Errorf("Config() = %v", c)
	}
	for name, file := range map[string][]byte{
		"no configuration": image(),
		"another text":     withConfig(t, "hello"),
		"a bomb":           withConfig(t, "CONFIG_A=y\n"+strings.Repeat(" ", maxConfig)),
	} {
		img, err := inspect(file)
		if err != nil {
			t.Fatal(err)
		}
		if c := img.Config(); c != nil || c.Off("CONFIG_RD_GZIP") {
			t.Errorf("%s: Config() = %v; want nil, of which nothing is known", name, c)
		}
	}
	cut := withConfig(t, "CONFIG_A=y\n")
	clear(cut[0x3010:])
	if c := (&Image{Data: cut}).Config(); c != nil {
		t.Errorf("Config() of broken data = %v", c)
	}
}

func FuzzConfig(f *testing.F) {
	whole := withConfig(f, "CONFIG_RD_GZIP=y\n")
	f.Add(bytes.Clone(whole[0x1ff0:0x3100]))
	f.Fuzz(func(t *testing.T, b []byte) {
		for symbol := range (&Image{Data: b}).Config() {
			if !strings.HasPrefix(symbol, "CONFIG_") {
				t.Fatalf("symbol %q", symbol)
			}
		}
	})
}
