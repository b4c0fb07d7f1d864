package partition

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/panicroom-kdump/panicroom/target"
)

// ErrDigest: a file is not what was written when the crash was saved.
var ErrDigest = errors.New("not what was saved")

// Unpack moves the crashes that wait on a partition into a directory and returns
// where they are. Each is taken off the partition only when it is durable in the
// directory; one that was incomplete stays so. A crash whose files are not what
// its manifest says is moved too, as an incomplete one, and told in the error.
func Unpack(ctx context.Context, path, dir string) ([]string, error) {
	f, err := openDevice(path, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := open(f, nil, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(t.table.Crashes) == 0 {
		return nil, nil
	}
	to, err := target.NewDirectory(dir)
	if err != nil {
		return nil, err
	}
	defer to.Close()
	var paths []string
	var errs []error
	for len(t.table.Crashes) > 0 {
		at, err := t.unpack(ctx, &t.table.Crashes[0], to)
		if at != "" {
			paths = append(paths, at)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s of %s: %w", t.table.Crashes[0].Name, path, err))
		}
		if err != nil && !errors.Is(err, ErrDigest) {
			break // it stays where it is
		}
		t.table.Crashes = t.table.Crashes[1:]
		if err := t.save(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
			break
		}
	}
	return paths, errors.Join(errs...)
}

func (t *Target) unpack(ctx context.Context, c *tableCrash, to target.Target) (at string, err error) {
	into, err := to.Begin(ctx, c.Name)
	if err != nil {
		return "", err
	}
	defer func() {
		at = into.Path()
		err = errors.Join(err, into.Abort())
	}()
	digests := map[string]digest{}
	for _, f := range c.Files {
		d, err := t.copy(ctx, f, into)
		if err != nil {
			return "", err
		}
		digests[f.Name] = d
	}
	if err := t.verify(c, digests); err != nil {
		return "", err
	}
	if !c.Complete {
		return "", nil
	}
	return "", into.Commit()
}

type digest struct {
	size   int64
	sha256 string
}

// copyStep is how much is copied between looks at the context.
const copyStep = 1 << 20

func (t *Target) copy(ctx context.Context, f tableFile, into target.Crash) (digest, error) {
	w, err := into.Create(f.Name)
	if err != nil {
		return digest{}, err
	}
	defer w.Close()
	r := &reader{disk: t.disk, head: t.head, file: f}
	h := sha256.New()
	buf := make([]byte, copyStep)
	for at := int64(0); at < f.Size; {
		if ctx.Err() != nil {
			return digest{}, context.Cause(ctx)
		}
		n, err := r.ReadAt(buf[:min(int64(len(buf)), f.Size-at)], at)
		if err != nil {
			return digest{}, fmt.Errorf("%s: read: %w", f.Name, err)
		}
		h.Write(buf[:n])
		if _, err := w.WriteAt(buf[:n], at); err != nil {
			return digest{}, err
		}
		at += int64(n)
	}
	return digest{f.Size, hex.EncodeToString(h.Sum(nil))}, w.Close()
}

// manifest is what is asked of a crash's manifest here.
type manifest struct {
	Files []struct {
		Name   string `json:"name"`
		Size   int64  `json:"size"`
		SHA256 string `json:"sha256"`
	} `json:"files"`
}

const (
	manifestFile = "manifest.json"
	maxManifest  = 1 << 20
)

// verify compares what was copied with what the manifest says was saved. A crash
// without one has nothing to say.
func (t *Target) verify(c *tableCrash, digests map[string]digest) error {
	r, err := openFile(t.disk, t.head, c, manifestFile)
	if err != nil {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(r, maxManifest))
	if err != nil {
		return err
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("%s is %w: %w", manifestFile, ErrDigest, err)
	}
	for _, f := range m.Files {
		if f.SHA256 == "" {
			continue
		}
		if d := digests[f.Name]; d.size != f.Size || d.sha256 != f.SHA256 {
			return fmt.Errorf("%s is %w: %d bytes with SHA-256 %s; the manifest says %d, %s", f.Name, ErrDigest, d.size, d.sha256, f.Size, f.SHA256)
		}
	}
	return nil
}
