package crashenv

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/device"
	"github.com/panicroom-kdump/panicroom/target/partition"
)

// Unpack moves the crashes that wait on the partitions among targets into a
// directory, and returns where they are. root is "/", or that of a test. One
// partition that cannot be read keeps nobody from the others.
func Unpack(ctx context.Context, root string, targets []config.Target, dir string) ([]string, error) {
	var paths []string
	var errs []error
	for _, t := range targets {
		if t.Kind() != config.KindPartition {
			continue
		}
		node, err := device.Node(os.DirFS(root), t.Partition)
		if err != nil {
			errs = append(errs, &TargetError{t.Partition, err, nil})
			continue
		}
		more, err := partition.Unpack(ctx, filepath.Join(root, "dev", node), dir)
		paths = append(paths, more...)
		if err != nil {
			errs = append(errs, &TargetError{t.Partition, err, nil})
		}
	}
	return paths, errors.Join(errs...)
}
