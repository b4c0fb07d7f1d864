package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Package makes the Debian package for an architecture and returns its path.
func Package(ctx context.Context, goarch string) (string, error) {
	out, err := OutDir()
	if err != nil {
		return "", err
	}
	unlock, err := lock(out, "package-"+goarch)
	if err != nil {
		return "", err
	}
	defer unlock()
	dir := filepath.Join(out, "package-"+goarch)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	c := exec.CommandContext(ctx, "scripts/package", "deb", goarch)
	if c.Dir, err = moduleRoot(); err != nil {
		return "", err
	}
	c.Env = append(os.Environ(), "OUT="+dir)
	if text, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("scripts/package: %w\n%s", err, text)
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("scripts/package left %d packages in %s: %w", len(debs), dir, err)
	}
	return debs[0], nil
}
