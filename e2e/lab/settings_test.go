package lab

import (
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

func TestSettingsFromEnv(t *testing.T) {
	base := Settings{Suite: "trixie", MemMiB: 2048, CPUs: 2, Crashkernel: "144M"}
	tests := []struct {
		env  map[string]string
		want Settings // the zero value: an error with a hint
	}{
		{nil, base},
		{map[string]string{"KERNEL": "sid", "MEM": "8G", "CPUS": "4", "CRASHKERNEL": "256M,high", "SV": "sv39", "V": "1"},
			Settings{Suite: "sid", MemMiB: 8192, CPUs: 4, Crashkernel: "256M,high", SV: 39, Verbose: true}},
		{map[string]string{"MEM": "1024", "SV": "57", "V": "0"},
			Settings{Suite: "trixie", MemMiB: 1024, CPUs: 2, Crashkernel: "144M", SV: 57}},
		{map[string]string{"MEM": "768m"}, Settings{Suite: "trixie", MemMiB: 768, CPUs: 2, Crashkernel: "144M"}},
		{map[string]string{"MEM": "12"}, Settings{}},
		{map[string]string{"MEM": "2T"}, Settings{}},
		{map[string]string{"MEM": "99999999999G"}, Settings{}},
		{map[string]string{"CPUS": "0"}, Settings{}},
		{map[string]string{"CPUS": "two"}, Settings{}},
		{map[string]string{"SV": "32"}, Settings{}},
		{map[string]string{"KERNEL": "../sid"}, Settings{}},
	}
	for _, tt := range tests {
		got, err := SettingsFromEnv(func(k string) string { return tt.env[k] })
		if tt.want == (Settings{}) {
			if err == nil || len(ui.Hints(err)) == 0 {
				t.Errorf("SettingsFromEnv(%v) = %+v, %v; want an error with a hint", tt.env, got, err)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("SettingsFromEnv(%v) = %+v, %v; want %+v", tt.env, got, err, tt.want)
		}
	}
	if _, err := mebibytes("M"); err == nil {
		t.Errorf("mebibytes(M) = %v; want an error", err)
	}
}
