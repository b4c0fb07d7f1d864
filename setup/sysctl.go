package setup

import (
	_ "embed"
	"io/fs"
	"strings"
)

// SysctlFile is where setup has parameters set at each boot.
const SysctlFile = "/etc/sysctl.d/60-panicroom.conf"

// sysctlText is what is in it; its comments are the documentation.
//
//go:embed sysctl.conf
var sysctlText []byte

// Sysctls are the parameters that make a kernel panic when it is broken, as far as
// they are set in [SysctlFile].
func Sysctls() []Sysctl {
	var all []Sysctl
	for line := range strings.Lines(string(sysctlText)) {
		name, value, ok := strings.Cut(line, "=")
		if ok && !strings.HasPrefix(line, "#") {
			all = append(all, Sysctl{strings.TrimSpace(name), strings.TrimSpace(value)})
		}
	}
	return all
}

// Value reads a parameter of the running kernel; false if it has none by that name.
func Value(root fs.FS, name string) (string, bool) {
	b, err := fs.ReadFile(root, "proc/sys/"+strings.ReplaceAll(name, ".", "/"))
	return strings.TrimSpace(string(b)), err == nil
}

// sysctls plans the parameters, for now and for each boot.
func (p *Plan) sysctls(root fs.FS) {
	had := exists(root, rel(SysctlFile))
	if p.file(root, File{SysctlFile, 0o644, sysctlText}, "a kernel that is broken shall panic, not go on") || !had {
		for _, s := range Sysctls() {
			if now, ok := Value(root, s.Name); ok && now != s.Value {
				p.add(Action{Why: "the same for the running kernel, which has " + now, Sysctl: &s})
			}
		}
	}
}
