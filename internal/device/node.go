package device

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Node finds the name in /dev of a block device that is named /dev/…,
// PARTUUID=… or LABEL=…, the last being the label of a partition or of what is on
// it; udev knows them by links.
func Node(fsys fs.FS, name string) (string, error) {
	var places []string
	key, value, _ := strings.Cut(name, "=")
	switch {
	case strings.HasPrefix(name, "/dev/"):
		places = []string{path.Clean(name)[1:]}
	case value == "" || strings.Contains(value, "/"):
		return "", fmt.Errorf("%q is none of /dev/…, PARTUUID=… and LABEL=…", name)
	case key == "PARTUUID":
		places = []string{"dev/disk/by-partuuid/" + strings.ToLower(value), "dev/disk/by-partuuid/" + value}
	case key == "LABEL":
		// As udev writes what a file's name could not hold.
		value = strings.ReplaceAll(value, " ", `\x20`)
		places = []string{"dev/disk/by-partlabel/" + value, "dev/disk/by-label/" + value}
	default:
		return "", fmt.Errorf("%q is none of /dev/…, PARTUUID=… and LABEL=…", name)
	}
	const maxLinks = 8
	var first error
	for _, at := range places {
		var info fs.FileInfo
		var err error
		for range maxLinks {
			if info, err = fs.Lstat(fsys, at); err != nil || info.Mode()&fs.ModeSymlink == 0 {
				break
			}
			var to string
			if to, err = fs.ReadLink(fsys, at); err != nil {
				break
			}
			if path.IsAbs(to) {
				at = path.Clean(to)[1:]
			} else {
				at = path.Join(path.Dir(at), to)
			}
		}
		rel, ok := strings.CutPrefix(at, "dev/")
		switch {
		case err == nil && ok && info.Mode()&fs.ModeSymlink == 0:
			return rel, nil
		case err == nil:
			err = fmt.Errorf("%s leads to %s", name, at)
		}
		if first == nil {
			first = err
		}
	}
	return "", first
}

// BlockNamed finds a block device by its name in /dev.
func BlockNamed(fsys fs.FS, name string) (*Block, error) {
	text, err := readSmall(fsys, path.Join("sys/class/block", strings.ReplaceAll(name, "/", "!"), "dev"))
	if err != nil {
		return nil, fmt.Errorf("/dev/%s is no block device: %w", name, err)
	}
	major, minor, err := ParseNumber(text)
	if err != nil {
		return nil, err
	}
	return FindBlock(fsys, major, minor)
}
