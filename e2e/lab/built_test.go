package lab

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLostLines(t *testing.T) {
	fragment := "# about\nCONFIG_A=y\nCONFIG_B=m\n\nCONFIG_C=\"\"\nCONFIG_D=y\n"
	config := "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=\"\"\n# CONFIG_D is not set\n"
	want := []string{"CONFIG_B=m", "CONFIG_D=y"}
	if diff := cmp.Diff(want, lostLines([]byte(fragment), []byte(config))); diff != "" {
		t.Errorf("lostLines (-want +got):\n%s", diff)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(kernelConfig)) {
		name, _, ok := strings.Cut(line, "=")
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		if !ok || seen[name] {
			t.Errorf("kernel.config: %q is no setting, or there twice", line)
		}
		seen[name] = true
	}
}

// What goes into a build is in its key.
func TestBuildKey(t *testing.T) {
	keys := map[string]bool{}
	for _, b := range []kernelBuild{
		{source: source{Version: "1"}, compiler: "gcc 12"},
		{source: source{Version: "2"}, compiler: "gcc 12"},
		{source: source{Version: "1"}, compiler: "gcc 14"},
		{source: source{Version: "1", Suite: "sid"}, compiler: "gcc 12"}, // the same source
	} {
		keys[b.digest()] = true
	}
	if len(keys) != 3 {
		t.Errorf("%d keys; want 3", len(keys))
	}
}

// A kernel that was not built is not built by asking for it.
func TestBuiltKernelMissing(t *testing.T) {
	t.Setenv("PANICROOM_CACHE", t.TempDir())
	_, err := FetchKernel(context.Background(), KernelOptions{Suite: "built-sid"})
	if err == nil || !strings.Contains(err.Error(), "built from the source of sid") {
		t.Errorf("error %v", err)
	}
}
