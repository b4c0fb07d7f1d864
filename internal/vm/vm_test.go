package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain makes the test binary its own emulator: machines of these tests
// run it with FAKE_MACHINE saying what the guest does.
func TestMain(m *testing.M) {
	if guest := os.Getenv("FAKE_MACHINE"); guest != "" {
		os.Exit(fakeMachine(guest, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// fakeMachine does what QEMU does with the arguments that Config makes.
func fakeMachine(guest string, args []string) int {
	socket := func(id string) net.Conn {
		for i, a := range args {
			if path, ok := strings.CutPrefix(a, "socket,id="+id+",path="); ok && args[i-1] == "-chardev" {
				c, err := net.Dial("unix", path)
				if err != nil {
					panic(err)
				}
				return c
			}
		}
		panic("no socket " + id)
	}
	qmp := socket("qmp")
	fmt.Fprintln(qmp, `{"QMP":{"version":{}}}`)
	replies, gone := make(chan bool), make(chan bool)
	go func() {
		defer close(gone)
		for dec := json.NewDecoder(qmp); ; {
			var c struct{ Execute string }
			if dec.Decode(&c) != nil {
				return
			}
			switch c.Execute {
			case "qmp_capabilities":
				fmt.Fprintln(qmp, `{"return":{}}`)
			case "query-status":
				fmt.Fprintln(qmp, `{"event":"RESUME"}`)
				fmt.Fprintln(qmp, `{"return":{"status":"running"}}`)
				replies <- true
			case "chardev-send-break":
				fmt.Fprintln(qmp, `{"return":{}}`)
				replies <- true
			case "human-monitor-command":
				fmt.Fprintln(qmp, `{"return":"CPU#0\r\n pc 0000000080000000"}`)
			default:
				fmt.Fprintln(qmp, `{"error":{"class":"CommandNotFound","desc":"no such thing"}}`)
			}
		}
	}()
	switch guest {
	case "talk":
		fmt.Print("OpenSBI\r\nLinux version 6\r\npart")
		fmt.Print("ial line\r\nno line end")
	case "wait":
		fmt.Println("up")
		<-replies
		fmt.Println("asked")
	case "keys":
		<-replies
		var typed [5]byte
		io.ReadFull(os.Stdin, typed[:])
		fmt.Printf("break, then %s\n", typed[:])
	case "hang":
		fmt.Println("up")
		<-gone // as long as somebody is there
	case "port":
		p := socket("port0")
		io.WriteString(p, "exact\x00bytes")
		p.Close()
	case "flood":
		fmt.Print(strings.Repeat("x", 3*maxLine))
	case "fail":
		fmt.Fprintln(os.Stderr, "qemu: no such device")
		return 1
	}
	return 0
}

func start(t *testing.T, guest string, config Config) *Machine {
	t.Helper()
	t.Setenv("FAKE_MACHINE", guest)
	config.Program = os.Args[0]
	if config.Console == "" {
		config.Console = filepath.Join(t.TempDir(), "console")
	}
	m, err := Start(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Kill(); m.Wait() })
	return m
}

func TestConsole(t *testing.T) {
	var heard []string
	path := filepath.Join(t.TempDir(), "console")
	m := start(t, "talk", Config{Console: path, OnLine: func(l Line) { heard = append(heard, l.Text) }})
	match, err := m.Expect(t.Context(), regexp.MustCompile(`^Linux version (\d+)`), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := match.Groups[1]; got != "6" || match.Index != 1 {
		t.Errorf("Expect = %q at %d; want 6 at 1", got, match.Index)
	}
	exit, err := m.Wait()
	if err != nil || exit.Code != 0 {
		t.Errorf("Wait() = %+v, %v; want code 0, no error", exit, err)
	}
	want := []string{"OpenSBI", "Linux version 6", "partial line", "no line end"}
	if !slices.Equal(heard, want) {
		t.Errorf("OnLine heard %q; want %q", heard, want)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "OpenSBI\r\nLinux version 6\r\npartial line\r\nno line end"; string(raw) != want {
		t.Errorf("console file = %q; want %q", raw, want)
	}
	if _, err := m.Expect(t.Context(), regexp.MustCompile("panic"), 0); !errors.Is(err, ErrEnded) ||
		!strings.Contains(err.Error(), "no line end") {
		t.Errorf("Expect after the end = %v; want ErrEnded with the last lines", err)
	}
	if _, err := m.Expect(t.Context(), regexp.MustCompile("OpenSBI"), 1); !errors.Is(err, ErrEnded) {
		t.Errorf("Expect of an earlier line = %v; want ErrEnded", err)
	}
}

func TestCommand(t *testing.T) {
	m := start(t, "wait", Config{})
	if _, err := m.Command(t.Context(), "nonsense", nil); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("Command(nonsense) = %v; want the monitor's error", err)
	}
	r, err := m.Command(t.Context(), "query-status", nil)
	if err != nil || !bytes.Contains(r, []byte("running")) {
		t.Errorf("Command(query-status) = %s, %v; want running", r, err)
	}
	if _, err := m.Expect(t.Context(), regexp.MustCompile("asked"), 0); err != nil {
		t.Error(err)
	}
	if _, err := m.Wait(); err != nil {
		t.Error(err)
	}
}

func TestKeys(t *testing.T) {
	m := start(t, "keys", Config{})
	if err := errors.Join(m.Break(t.Context()), m.Type("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Expect(t.Context(), regexp.MustCompile("^break, then hello$"), 0); err != nil {
		t.Error(err)
	}
}

func TestEnds(t *testing.T) {
	tests := []struct {
		name, guest string
		config      Config
		do          func(*Machine)
		want        error
		text        string
	}{
		{name: "time", guest: "hang", config: Config{Limit: 300 * time.Millisecond}, want: ErrTimeLimit, text: "up"},
		{name: "kill", guest: "hang", do: (*Machine).Kill, want: ErrKilled, text: "up"},
		{name: "fail", guest: "fail", text: "no such device"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := start(t, tt.guest, tt.config)
			if tt.do != nil {
				if _, err := m.Expect(t.Context(), regexp.MustCompile("up"), 0); err != nil {
					t.Fatal(err)
				}
				tt.do(m)
			}
			_, err := m.Wait()
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Wait() = %v; want %v", err, tt.want)
			}
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Wait() = %v; want %q in it", err, tt.text)
			}
			if _, err := os.Stat(m.sockets); !os.IsNotExist(err) {
				t.Errorf("sockets are left in %s", m.sockets)
			}
		})
	}
}

func TestPort(t *testing.T) {
	var got bytes.Buffer
	m := start(t, "port", Config{Ports: []Port{{Name: "lab", W: &got}}})
	if _, err := m.Wait(); err != nil {
		t.Fatal(err)
	}
	if want := "exact\x00bytes"; got.String() != want {
		t.Errorf("port got %q; want %q", got.String(), want)
	}
}

// A guest that prints without ever ending the line costs bounded memory and
// loses nothing.
func TestLongLine(t *testing.T) {
	m := start(t, "flood", Config{})
	if _, err := m.Wait(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, l := range m.Lines() {
		n += len(l.Text)
	}
	if got := len(m.Lines()); got < 3 || n != 3*maxLine {
		t.Errorf("%d lines of %d bytes; want at least 3 of %d", got, n, 3*maxLine)
	}
}

func TestExpectEndsWithContext(t *testing.T) {
	m := start(t, "hang", Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := m.Expect(ctx, regexp.MustCompile("never"), 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Expect = %v; want deadline exceeded", err)
	}
}

// A machine that does not begin is stopped early, with what it said last and what
// its CPUs do; one that does begin is left alone.
func TestBegin(t *testing.T) {
	registers := filepath.Join(t.TempDir(), "registers")
	m := start(t, "hang", Config{Begin: regexp.MustCompile("Linux version"), BeginLimit: 50 * time.Millisecond, Registers: registers})
	_, err := m.Wait()
	if !errors.Is(err, ErrNoBegin) {
		t.Fatalf("Wait = %v; want ErrNoBegin", err)
	}
	for _, want := range []string{`"Linux version" in 50ms`, `ago; registers in ` + registers} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	text, err := os.ReadFile(registers)
	if err != nil || strings.Count(string(text), "info registers -a\nCPU#0\r\n pc 0000000080000000") != 2 {
		t.Errorf("registers: %q, %v", text, err)
	}

	m = start(t, "hang", Config{Begin: regexp.MustCompile("up"), BeginLimit: time.Minute, Registers: registers + "2"})
	if _, err := m.Expect(t.Context(), regexp.MustCompile("up"), 0); err != nil {
		t.Fatal(err)
	}
	m.Kill()
	if _, err := m.Wait(); !errors.Is(err, ErrKilled) {
		t.Errorf("Wait = %v; want ErrKilled", err)
	}
}

func TestNoEmulator(t *testing.T) {
	_, err := Start(t.Context(), Config{Program: "no-such-emulator", Console: filepath.Join(t.TempDir(), "c")})
	var hints interface{ Hints() []string }
	if !errors.Is(err, ErrNoEmulator) || !errors.As(err, &hints) {
		t.Fatalf("Start = %v; want ErrNoEmulator with hints", err)
	}
	if got := strings.Join(hints.Hints(), "\n"); !strings.Contains(got, "qemu-system-misc") {
		t.Errorf("hints = %q; want the package's name", got)
	}
}

func TestArgs(t *testing.T) {
	c := Config{
		CPUs: 2, MemMiB: 2048, Kernel: "/k", Initrd: "/i", Cmdline: "console=ttyS0", DTB: "/d",
		RAM: "/ram,1", Disks: []Disk{{Path: "/disk", Serial: "one"}, {Path: "/ro", ReadOnly: true}},
		Ports: []Port{{Name: "lab"}}, Extra: []string{"-s"},
	}.withDefaults()
	got := strings.Join(c.args("/tmp/s"), " ")
	for _, want := range []string{
		"-smp 2 -m 2048M", "memory-backend-file,id=ram,size=2048M,share=on,mem-path=/ram,,1", "-machine virt,memory-backend=ram",
		"-no-reboot", "-kernel /k -initrd /i -append console=ttyS0 -dtb /d", "if=none,id=disk0,format=raw,file=/disk",
		"virtio-blk-device,drive=disk0,serial=one", "file=/ro,readonly=on", "path=/tmp/s/port0", "virtserialport,bus=ports.0,chardev=port0,name=lab",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("args = %s; want %q in them", got, want)
		}
	}
	if !strings.HasSuffix(got, " -s") {
		t.Errorf("args = %s; want the extra ones last", got)
	}
}
