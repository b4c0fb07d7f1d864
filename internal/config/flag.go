package config

import (
	"fmt"
	"path/filepath"
	"strings"
)

// ParseTarget reads a target as it stands on a command line: a directory, or
// partition:…, ssh:… or nfs:… with what the key of that name says in the file.
// What else can be said of it is as if the file did not.
func ParseTarget(text string) (Target, error) {
	var t Target
	kind, place, ok := strings.Cut(text, ":")
	switch {
	case ok && kind == string(KindPartition) && place != "":
		t.Partition = place
	case ok && kind == string(KindSSH):
		if _, err := ParseSSH(place); err != nil {
			return t, err
		}
		t.SSH = place
	case ok && kind == string(KindNFS):
		if _, err := ParseNFS(place); err != nil {
			return t, err
		}
		t.NFS = place
	case text == "":
		return t, fmt.Errorf("an empty target")
	default:
		dir, err := filepath.Abs(text)
		if err != nil {
			return t, err
		}
		t.Dir = dir
	}
	t.fill()
	return t, nil
}
