package status

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/target/partition"
	"github.com/panicroom-kdump/panicroom/target/sshdir"
)

func TestLookDirectory(t *testing.T) {
	got := Look(t.Context(), []config.Target{{Dir: filepath.Join(t.TempDir(), "not/yet")}, {Dir: "/proc/self/stat/x"}}, nil)
	if !got[0].Asked || !got[0].Known || got[0].Free == 0 || got[0].Err != nil {
		t.Errorf("%+v; want the room of the directory above", got[0])
	}
	if got[1].Err == nil || got[1].Known {
		t.Errorf("%+v; want an error", got[1])
	}
}

// All are asked at once, in the order of the configuration; one that hangs is given
// up, and told of before.
func TestLookAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		a := &asker{answer: 8 * time.Second, whole: 10 * time.Second, slow: time.Second, say: func(s string) { said = append(said, s) }}
		end := make(chan bool)
		defer close(end)
		list := []config.Target{{Dir: "/deaf"}, {Dir: "/slow"}, {Dir: "/quick"}, {Dir: "/patient"}}
		start := time.Now()
		got := a.all(t.Context(), list, func(ctx context.Context, c config.Target) Target {
			l := Target{Target: c, Asked: true}
			switch c.Dir {
			case "/deaf":
				<-end
			case "/slow":
				<-time.After(5 * time.Second)
			case "/patient":
				<-ctx.Done()
				l.Err = context.Cause(ctx)
			}
			return l
		})
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
		for i, want := range []string{"no answer within 10s", "", "", "no answer within 8s"} {
			text := ""
			if got[i].Err != nil {
				text = got[i].Err.Error()
			}
			if got[i].Dir != list[i].Dir || text != want {
				t.Errorf("%s: %s: %q; want %q", list[i].Dir, got[i].Dir, text, want)
			}
		}
		if want := []string{"dir /deaf, dir /slow, dir /patient"}; !cmp.Equal(said, want) {
			t.Errorf("said %q; want %q", said, want)
		}
	})
}

func TestLookPartition(t *testing.T) {
	// A name in /dev that leads to an image.
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, make([]byte, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	root := fstest.MapFS{"dev/disk/by-partlabel/room": {Mode: fs.ModeSymlink, Data: []byte("../../.." + image)}}
	a := &asker{root: root, privileged: true}
	if l := a.look(t.Context(), config.Target{Partition: "LABEL=nonesuch"}); l.Err == nil {
		t.Errorf("%+v; want an error", l)
	}
	if l := a.look(t.Context(), config.Target{Partition: "LABEL=room"}); l.Err == nil {
		t.Errorf("%+v; want an error for what is not in /dev", l)
	}
	// What follows knows it by its path only.
	var l Target
	l.read(image, a)
	if l.Err == nil || !strings.Contains(strings.Join(ui.Hints(l.Err), ""), "panicroom target init") {
		t.Errorf("%+v; want one that is not prepared", l)
	}
	if _, err := partition.Init(image); err != nil {
		t.Fatal(err)
	}
	tgt, err := partition.Open(image, "room")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tgt.Begin(t.Context(), "crash"); err != nil {
		t.Fatal(err)
	}
	tgt.Close()
	l = Target{}
	l.read(image, a)
	if l.Err != nil || !l.Known || l.Free != 14<<20 || l.Waiting != 1 || l.Device != image {
		t.Errorf("%+v; want one crash and 14 MiB", l)
	}
}

// What only root can read is no fault of the target, as long as we are not root.
func TestLookKept(t *testing.T) {
	err := &fs.PathError{Op: "open", Path: "/etc/panicroom/id", Err: fs.ErrPermission}
	var l Target
	l.Asked = true
	if (&asker{privileged: true}).kept(&l, "the key", err) || (&asker{}).kept(&l, "the key", errors.New("x")) || !l.Asked {
		t.Errorf("%+v; want it asked", l)
	}
	if !(&asker{}).kept(&l, "the key", err) || l.Asked || l.Note != "not asked: only root can read the key" {
		t.Errorf("%+v; want a note", l)
	}
	link := l.link(0)
	if link.State != OK || !strings.Contains(link.Says, "not asked") {
		t.Errorf("%+v", link)
	}
}

// What is wrong with a target on another machine, without one.
func TestLookSSH(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	l.Close() // nobody is there
	at := "root@127.0.0.1:" + strconv.Itoa(int(port)) + ":/srv"
	key, known := filepath.Join(dir, "key"), filepath.Join(dir, "known_hosts")
	look := func() Target {
		return Look(t.Context(), []config.Target{{SSH: at, Key: key, KnownHosts: known}}, nil)[0]
	}
	want := func(what, hint string) {
		t.Helper()
		l := look()
		if !l.Asked || l.Known || l.Err == nil || !strings.Contains(l.Err.Error(), what) || !strings.Contains(strings.Join(ui.Hints(l.Err), "\n"), hint) {
			t.Errorf("%+v, hints %q; want %q, %q", l, ui.Hints(l.Err), what, hint)
		}
	}
	want("known hosts", "ssh-keyscan")
	public, _, err := sshdir.MakeKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(known, []byte("[127.0.0.1]:"+strconv.Itoa(int(port))+" "+public+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want("refused", "")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	want("private key", "panicroom target key")
}

func TestTargetJSON(t *testing.T) {
	for want, l := range map[string]Target{
		`{"target":"dir /a","asked":true,"usable":true,"free":5}`:                        {Target: config.Target{Dir: "/a"}, Asked: true, Free: 5, Known: true},
		`{"target":"ssh b:/a","asked":false,"note":"not asked"}`:                         {Target: config.Target{SSH: "b:/a", Key: "/secret"}, Note: "not asked"},
		`{"target":"partition /dev/a","asked":true,"usable":true,"free":0,"waiting":1}`:  {Target: config.Target{Partition: "/dev/a"}, Asked: true, Known: true, Waiting: 1},
		`{"target":"nfs b:/a","asked":true,"usable":false,"error":"connection refused"}`: {Target: config.Target{NFS: "b:/a"}, Asked: true, Err: errors.New("connection refused")},
	} {
		if got, err := json.Marshal(l); err != nil || string(got) != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
}

func TestNFSPort(t *testing.T) {
	for options, want := range map[string]uint16{"": 2049, "soft,port=2050": 2050, "port=1,port=2": 2, "port=x,port=0,port=70000": 2049} {
		if got := nfsPort(options); got != want {
			t.Errorf("nfsPort(%q) = %d; want %d", options, got, want)
		}
	}
}
