package crashenv

import (
	"fmt"
	"strings"
)

// Param is one parameter of the panic kernel's command line, with the reason
// why it is there.
type Param struct {
	Text   string `json:"text"`
	Reason string `json:"reason"`
}

// Cmdline returns what the crash environment needs on the command line of the
// panic kernel, after what is inherited from the running one. It is short: a
// riscv64 kernel of 6.12 takes 1023 bytes in all
// (arch/riscv/include/uapi/asm/setup.h; 2047 in 7.2). cpus is how many CPUs shall save; 0
// is one.
//
// Not there on purpose: oops=panic (PID 1 outlives the oops of a worker and can
// still print the log; hangs are ended by its deadlines), irqpoll (an interrupt
// that no driver of the panic kernel has asked for is masked when riscv's PLIC
// and APLIC are probed anew, and polling costs each timer tick), maxcpus (does
// not keep the memory of the other CPUs from being allocated).
func Cmdline(cpus int) []Param {
	return []Param{
		{"rdinit=/init", "the crash environment, even if the running kernel was told another init"},
		{fmt.Sprintf("nr_cpus=%d", max(1, cpus)), "every CPU more costs memory of the panic room"},
		{"reset_devices", "devices were stopped in the middle of their work; drivers reset them instead of trusting their state"},
		{"panic=10", "when the panic kernel panics too, the machine must come back"},
		{"sysctl.vm.overcommit_memory=1", "Go reserves address space larger than the panic room; with less than 32 MiB the heuristic refuses that, and writing the sysctl from Go would be too late"},
		{"cma=0", "a reserved DMA area (128 MiB by default on riscv64 kernels 7.x) would take all the memory there is"},
		{"cgroup_disable=memory", "memory for accounting that nobody does"},
		{"transparent_hugepage=never", "khugepaged raises vm.min_free_kbytes by megabytes"},
		{"kfence.sample_interval=0", "the pool of KFENCE is 2 MiB"},
		{"novmcoredd", "drivers may put dumps of their devices, without bound, into the panic room's memory"},
	}
}

// String joins parameters to text for a command line.
func String(params []Param) string {
	texts := make([]string, len(params))
	for i, p := range params {
		texts[i] = p.Text
	}
	return strings.Join(texts, " ")
}
