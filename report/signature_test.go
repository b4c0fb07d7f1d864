package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel/stack"
)

// trace is a backtrace as a log has it.
func trace(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }

// The same crash, and what differs between its reports.
func TestSignaturesEqual(t *testing.T) {
	for _, c := range []struct {
		name string
		kind string
		a, b []string
		want []string
	}{
		{
			"another kernel", "bug",
			trace("lkdtm_BUG+0x6/0x8\nlkdtm_do_action+0x16/0x20\ndirect_entry+0xbc/0xcc\nfull_proxy_write+0x42/0x6a\nvfs_write+0x96/0x288"),
			trace("lkdtm_BUG+0x8/0xa\nlkdtm_do_action+0x1c/0x2a\ndirect_entry+0xb8/0xd0\ndebugfs_write+0x10/0x20"),
			[]string{"lkdtm_BUG", "lkdtm_do_action", "direct_entry"},
		},
		{
			"with and without what prints it", "panic",
			trace("dump_backtrace+0x1c/0x24\nshow_stack+0x2c/0x38\ndump_stack_lvl+0x48/0x72\ndump_stack+0x14/0x1c\nvpanic+0x1/0x2\npanic+0xee/0x324\ndisk_check+0x10/0x20 [gadget]\ndisk_read+0x1/0x2 [gadget]\nvfs_read+0x1/0x2"),
			trace("disk_check+0x10/0x20 [gadget]\ndisk_read+0x1/0x2 [gadget]\nvfs_read+0x1/0x2\nksys_read+0x1/0x2"),
			[]string{"disk_check [gadget]", "disk_read [gadget]", "vfs_read"},
		},
		{
			"what compilers add", "oops",
			trace("disk_check.isra.0+0x10/0x20 [gadget]\ndisk_read.constprop.3.part.0+0x1/0x2 [gadget 0123456789abcdef]\nvfs_read.cold+0x1/0x2"),
			trace("disk_check+0x30/0x60 [gadget]\ndisk_read.llvm.1234567+0x1/0x2 [gadget]\nvfs_read+0x1/0x2"),
			[]string{"disk_check [gadget]", "disk_read [gadget]", "vfs_read"},
		},
		{
			"depth of recursion", "oops",
			trace("walk+0x1/0x2\nwalk+0x5/0x6\nwalk+0x5/0x6\nstart+0x1/0x2\nrun+0x1/0x2"),
			trace("walk+0x1/0x2\nstart+0x1/0x2\nrun+0x1/0x2"),
			[]string{"walk", "start", "run"},
		},
		{
			"in an interrupt, of whatever it came upon", "panic",
			trace("panic+0x1/0x2\ndisk_irq+0x1/0x2\n__handle_irq_event_percpu+0x1/0x2\nhandle_riscv_irq+0x1/0x2\ndo_irq+0x1/0x2\nhandle_exception+0x1/0x2\ndefault_idle_call+0x1/0x2"),
			trace("panic+0x1/0x2\ndisk_irq+0x1/0x2\nhandle_irq_event+0x1/0x2\nhandle_riscv_irq+0x1/0x2\ncall_on_irq_stack+0x1/0x2\nmemcpy_to_page+0x1/0x2\nvfs_write+0x1/0x2"),
			[]string{"disk_irq"},
		},
		{
			"a detector of lockups, in an interrupt", "lockup",
			trace("panic+0x1/0x2\nwatchdog_timer_fn+0x1/0x2\n__hrtimer_run_queues+0x1/0x2\nhrtimer_interrupt+0x1/0x2\nriscv_timer_interrupt+0x1/0x2\nhandle_percpu_devid_irq+0x1/0x2\ngeneric_handle_domain_irq+0x1/0x2\nriscv_intc_irq+0x1/0x2\nhandle_riscv_irq+0x1/0x2\ndo_irq+0x1/0x2\nhandle_exception+0x1/0x2\nspin+0x1/0x2\nrun+0x1/0x2\nhandle_exception+0x1/0x2"),
			trace("spin+0x1/0x2\nrun+0x1/0x2\nhandle_exception+0x1/0x2\nuser+0x1/0x2"),
			[]string{"spin", "run"},
		},
		{
			"a system call on another architecture", "oops",
			trace("disk_sync+0x1/0x2\n__riscv_sys_sync+0x1/0x2\ndo_trap_ecall_u+0x94/0x14c\nhandle_exception+0x146/0x152"),
			trace("disk_sync+0x1/0x2\n__do_sys_sync+0x1/0x2\n__x64_sys_sync+0x1/0x2\ndo_syscall_64+0x1/0x2"),
			[]string{"disk_sync", "sys_sync"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := signature(c.kind, "", c.a), signature(c.kind, "", c.b)
			if a.ID != b.ID || !slices.Equal(a.Frames, c.want) || !slices.Equal(b.Frames, c.want) {
				t.Errorf("signatures %+v and %+v; want the same, of %q", a, b, c.want)
			}
		})
	}
}

func TestSignaturesDiffer(t *testing.T) {
	base := trace("a+0x1/0x2\nb+0x1/0x2\nc+0x1/0x2")
	all := map[string]*Signature{
		"an oops":              signature("oops", "null-dereference", base),
		"a BUG":                signature("bug", "assertion", base),
		"another function":     signature("oops", "null-dereference", trace("a2+0x1/0x2\nb+0x1/0x2\nc+0x1/0x2")),
		"another caller":       signature("oops", "null-dereference", trace("a+0x1/0x2\nb2+0x1/0x2\nc+0x1/0x2")),
		"its caller":           signature("oops", "null-dereference", trace("a+0x1/0x2\nb+0x1/0x2\nc2+0x1/0x2")),
		"in a module":          signature("oops", "null-dereference", trace("a+0x1/0x2 [m]\nb+0x1/0x2\nc+0x1/0x2")),
		"in another module":    signature("oops", "null-dereference", trace("a+0x1/0x2 [m2]\nb+0x1/0x2\nc+0x1/0x2")),
		"no functions":         signature("oops", "", nil),
		"a soft lockup":        signature("lockup", "soft-lockup", base),
		"a hung task":          signature("lockup", "hung-task", base),
		"out of memory":        signature("memory", "out-of-memory", nil),
		"a group's memory":     signature("memory", "out-of-memory-cgroup", nil),
		"init killed":          signature("panic", "init-killed", nil),
		"no root filesystem":   signature("panic", "no-root", nil),
		"frames of other cuts": signature("oops", "", trace("a+0x1/0x2\nbc+0x1/0x2")),
		"the same, cut before": signature("oops", "", trace("ab+0x1/0x2\nc+0x1/0x2")),
	}
	seen := map[string]string{}
	for name, s := range all {
		if other, ok := seen[s.ID]; ok {
			t.Errorf("%s and %s have the same signature %+v", name, other, s)
		}
		seen[s.ID] = name
	}
	// How a bad pointer was bad is chance.
	if s := signature("oops", "use-after-free", base); s.ID != all["an oops"].ID {
		t.Errorf("signature %+v of another bad pointer; want %+v", s, all["an oops"])
	}
}

// TestSignatureForm checks what docs/signature.md promises of the id.
func TestSignatureForm(t *testing.T) {
	s := signature("lockup", "hung-task", trace("schedule+0x1/0x2\nwait+0x1/0x2"))
	h := sha256.Sum256([]byte("v1\nlockup/hung-task\nwait\n"))
	if want := "v1:" + hex.EncodeToString(h[:])[:16]; s.ID != want || s.Kind != "lockup/hung-task" {
		t.Errorf("signature %+v; want id %s of lockup/hung-task", s, want)
	}
}

// frames make a stack of names; "!" before a name marks what was interrupted,
// "?" what cannot be trusted, "-" alone what has no symbol.
func frames(names string) *stack.Stack {
	s := &stack.Stack{}
	for name := range strings.FieldsSeq(names) {
		var f stack.Frame
		if rest, ok := strings.CutPrefix(name, "!"); ok {
			f.Interrupted, name = true, rest
		}
		if rest, ok := strings.CutPrefix(name, "?"); ok {
			f.Doubt, name = "not in code", rest
		}
		if name != "-" {
			f.Function, f.Module, _ = strings.Cut(name, ":")
		}
		s.Frames = append(s.Frames, f)
	}
	return s
}

// The stack and the log give the same names.
func TestNamesOfStacks(t *testing.T) {
	for _, c := range []struct{ stack, want string }{
		{"panic a b:m c d", "a|b [m]|c"},
		{"crash_kexec die do_trap_break !a b c", "a|b|c"},
		{"die_kernel_fault handle_page_fault do_page_fault !- a b c", "a"},
		{"panic ?x a ?y b c", "a|b|c"},
		{"panic a handle_riscv_irq !- b", "a"},
		{"", ""},
	} {
		if got := strings.Join(significant(namesOf(frames(c.stack)), signatureFrames), "|"); got != c.want {
			t.Errorf("names of %q = %s; want %s", c.stack, got, c.want)
		}
	}
	if namesOf(nil) != nil {
		t.Error("no stack has names")
	}
}

// FuzzSignature checks that whatever a backtrace says the signature has its
// form.
func FuzzSignature(f *testing.F) {
	f.Add("oops", "null-dereference", "a+0x1/0x2 [m]\n? b\nhandle_exception\n[x]")
	f.Fuzz(func(t *testing.T, kind, class, text string) {
		s := signature(kind, class, strings.Split(text, "\n"))
		if len(s.ID) != len("v1:")+16 || len(s.Frames) > signatureFrames {
			t.Errorf("signature %+v", s)
		}
		if again := signature(kind, class, s.Frames); again.ID != s.ID && len(s.Frames) > 0 {
			t.Errorf("signature of its own frames %+v; want %+v", again, s)
		}
	})
}

// TestDocumentedSignature checks the example of the document, which says that
// anybody can.
func TestDocumentedSignature(t *testing.T) {
	text, err := os.ReadFile("../docs/signature.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), `"signature": {`)
	block, _, ok2 := strings.Cut(rest, "}")
	var s Signature
	if err := json.Unmarshal([]byte("{"+block+"}"), &s); !ok || !ok2 || err != nil {
		t.Fatalf("no example: %v", err)
	}
	sum := sha256.Sum256([]byte("v1\n" + s.Kind + "\n" + strings.Join(s.Frames, "\n") + "\n"))
	if want := "v1:" + hex.EncodeToString(sum[:8]); s.ID != want {
		t.Errorf("the example has %s; want %s", s.ID, want)
	}
}
