package kernel

import (
	"fmt"
)

// PerCPU knows where the parts of per-CPU variables are: __per_cpu_offset,
// mm/percpu.c (Linux 7.2). Addresses of such variables are relative to these
// offsets, whether they come from the symbol table or out of a pointer.
type PerCPU struct {
	// CPUs are the numbers of the CPUs that this machine can have, ascending.
	CPUs    []int
	offsets map[int]VirtAddr
}

// PerCPU finds the parts of per-CPU variables. The error is ErrNotFound on a
// kernel without SMP.
func (k *Kernel) PerCPU() (*PerCPU, error) {
	k.perCPUMu.Lock()
	defer k.perCPUMu.Unlock()
	if k.perCPU == nil && k.perCPUErr == nil {
		if k.perCPU, k.perCPUErr = k.findPerCPU(); k.perCPUErr != nil {
			k.perCPUErr = fmt.Errorf("per-CPU variables: %w", k.perCPUErr)
		}
	}
	return k.perCPU, k.perCPUErr
}

func (k *Kernel) findPerCPU() (*PerCPU, error) {
	offsets, err := k.Variable("__per_cpu_offset")
	if err != nil {
		return nil, err
	}
	cpus, err := k.CPUMask("__cpu_possible_mask")
	if err != nil {
		return nil, err
	}
	p := &PerCPU{CPUs: cpus, offsets: make(map[int]VirtAddr, len(cpus))}
	for _, cpu := range cpus {
		if p.offsets[cpu], err = k.ReadPointer(offsets + VirtAddr(8*cpu)); err != nil {
			return nil, fmt.Errorf("CPU %d: %w", cpu, err)
		}
	}
	return p, nil
}

// Addr is where a CPU has its part of the variable; 0 if there is no such CPU.
func (p *PerCPU) Addr(variable VirtAddr, cpu int) VirtAddr {
	off, ok := p.offsets[cpu]
	if !ok {
		return 0
	}
	return variable + off
}

// CPUMask reads a set of CPUs: __cpu_possible_mask, __cpu_online_mask,
// __cpu_present_mask or __cpu_active_mask, kernel/cpu.c (Linux 4.5 to 7.2).
func (k *Kernel) CPUMask(name string) ([]int, error) {
	addr, err := k.Variable(name)
	if err != nil {
		return nil, err
	}
	l, err := k.Layout()
	if err != nil {
		return nil, err
	}
	size, ok := l.Size("cpumask")
	if !ok || size > maxCPUs/8 {
		return nil, fmt.Errorf("struct cpumask of %d bytes: %w", size, ErrNoInfo)
	}
	mask := make([]byte, size)
	if err := k.ReadVirt(mask, addr); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var cpus []int
	for cpu := range int(size) * 8 {
		if mask[cpu/8]>>(cpu%8)&1 != 0 {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}
