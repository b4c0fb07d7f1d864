package value

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Address understands an address as people write it: a number in hexadecimal, with
// 0x or without; a symbol, with an offset or without ("init_task+0x40"); a per-CPU
// variable of one CPU ("runqueues:1"). What is a symbol is one, also if it could be
// a number.
func Address(k *kernel.Kernel, s string) (kernel.VirtAddr, error) {
	s = strings.TrimSpace(s)
	base, off, plus := strings.Cut(s, "+")
	var offset uint64
	if plus {
		n, err := number(off)
		if err != nil {
			return 0, fmt.Errorf("offset %q: %w", off, err)
		}
		offset = n
	}
	name, cpu, percpu := strings.Cut(base, ":")
	if strings.HasPrefix(name, "0x") || strings.HasPrefix(name, "0X") {
		n, err := number(name)
		if err != nil || percpu {
			return 0, fmt.Errorf("address %q: %w", s, errNumber)
		}
		return kernel.VirtAddr(n + offset), nil
	}
	at, err := Symbol(k, name)
	if err != nil {
		if n, nerr := strconv.ParseUint(name, 16, 64); nerr == nil && !percpu {
			return kernel.VirtAddr(n + offset), nil
		}
		return 0, err
	}
	if percpu {
		n, err := strconv.ParseUint(cpu, 10, 31)
		if err != nil {
			return 0, fmt.Errorf("CPU %q: %w", cpu, errNumber)
		}
		p, err := k.PerCPU()
		if err != nil {
			return 0, err
		}
		if at = p.Addr(at, int(n)); at == 0 {
			return 0, fmt.Errorf("there is no CPU %d", n)
		}
	}
	return at + kernel.VirtAddr(offset), nil
}

var errNumber = errors.New("that is no number")

// number is a number, of base 16 with 0x.
func number(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		return 0, errNumber
	}
	return n, nil
}

// Symbol is the address of a symbol, of the kernel proper or of a module. The error
// is ErrNotFound of package kernel.
func Symbol(k *kernel.Kernel, name string) (kernel.VirtAddr, error) {
	if name == "" {
		return 0, fmt.Errorf("symbol without a name: %w", kernel.ErrNotFound)
	}
	at, err := k.Variable(name)
	if err == nil || !errors.Is(err, kernel.ErrNotFound) {
		return at, err
	}
	for m, merr := range k.Modules() {
		if merr != nil {
			break // the first answer stands
		}
		for sym, serr := range k.ModuleSymbols(&m) {
			if serr != nil {
				break
			}
			if sym.Name == name {
				return sym.Addr, nil
			}
		}
	}
	return 0, err
}
