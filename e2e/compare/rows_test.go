package main

import (
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

func TestAnswers(t *testing.T) {
	o := &lab.Outcome{Results: []lab.Result{
		{Name: "load", Ended: true, Stderr: "Warning: No dtb provided\n"},
		{Name: "file", Ended: true, Exit: 253, Stderr: "Warning: No cmdline provided\nsyscall kexec_file_load not available.\n"},
		{Name: "loaded before", Ended: true, Stdout: "1\n"},
		{Name: "refused by the kernel", Ended: true, Exit: 255, Stderr: "kexec_load failed: nope\n"},
		{Name: "loaded after", Ended: true, Stdout: "0\n"},
		{Name: "panic"},
	}}
	tests := []struct {
		name string
		got  answer
		want answer
	}{
		{"works", step(o, "load", "loads"), answer{true, "loads"}},
		{"fails", step(o, "file", "loads"), answer{false, `fails: "syscall kexec_file_load not available."`}},
		{"missing", step(o, "nonesuch", "loads"), answer{false, "the machine did not come so far"}},
		{"crashed", step(o, "panic", "ends"), answer{false, "did not end"}},
		{"swallows", refuses(o, "load", 4), answer{false, "loads it without a word; the crash would hang"}},
		{"another code", refuses(o, "file", 4), answer{false, `exit 253: fails: "syscall kexec_file_load not available."`}},
		{"refuses", refuses(o, "file", 0), answer{true, `refuses: "syscall kexec_file_load not available."`}},
		{"gone", keeps(o), answer{false, `fails: "kexec_load failed: nope", and the panic kernel that was there is gone`}},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: %+v; want %+v", tt.name, tt.got, tt.want)
		}
	}
}
