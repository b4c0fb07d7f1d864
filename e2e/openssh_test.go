//go:build e2e

package e2e

import (
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/target"
	"github.com/panicroom-kdump/panicroom/target/sshdir"
	"github.com/panicroom-kdump/panicroom/target/targettest"
)

// OpenSSH's own server passes the suite that the server of the unit tests does,
// and says of a full disk what is understood.
func TestOpenSSH(t *testing.T) {
	t.Parallel()
	server := startSSH(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dial := func(t *testing.T, dir string) target.Target {
		t.Helper()
		s := &sshdir.Server{User: me.Username, Host: "localhost", Port: uint16(server.Port), Dir: dir,
			Addresses: []netip.Addr{netip.MustParseAddr("::1")}, HostKeys: []string{server.HostKey}}
		tgt, err := sshdir.Dial(t.Context(), s, server.Key)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tgt.Close() })
		return tgt
	}
	targettest.Run(t, targettest.Subject{
		New: func(t *testing.T) target.Target { return dial(t, filepath.Join(t.TempDir(), "srv", "crash")) },
		Read: func(_ *testing.T, _ target.Target, path, file string) ([]byte, error) {
			return os.ReadFile(filepath.Join(path, file))
		},
		Full: func(t *testing.T) target.Target {
			dir := t.TempDir()
			if err := sys.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
				t.Fatalf("a filesystem that gets full: %v (only root can mount it)", err)
			}
			t.Cleanup(func() {
				if err := sys.Unmount(dir); err != nil {
					t.Error(err)
				}
			})
			return dial(t, dir)
		},
	})
}
