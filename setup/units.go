package setup

import (
	"bytes"
	"embed"
	"io/fs"
	"path"
	"strings"
)

// unitTree is what a package brings, for machines where the program came alone.
//
//go:embed units
var unitTree embed.FS

// networkText makes the service wait for the network. It cannot always: a machine
// whose targets are its own disks shall be protected long before it has a network.
var networkText = []byte(`# Written by panicroom setup, for a target that is another machine.
[Unit]
Wants=network-online.target
After=network-online.target
`)

// packagedProgram is where the units have the program.
const packagedProgram = "/usr/bin/panicroom"

// unitFiles are the units and the udev rule, for a program that is elsewhere.
func unitFiles(program string) ([]File, error) {
	entries, err := fs.ReadDir(unitTree, "units")
	if err != nil {
		return nil, err
	}
	var files []File
	for _, e := range entries {
		b, err := fs.ReadFile(unitTree, "units/"+e.Name())
		if err != nil {
			return nil, err
		}
		dir := "/" + unitDir
		if strings.HasSuffix(e.Name(), ".rules") {
			dir = "/etc/udev/rules.d"
		}
		files = append(files, File{path.Join(dir, e.Name()), 0o644, bytes.ReplaceAll(b, []byte(packagedProgram), []byte(program))})
	}
	return files, nil
}
