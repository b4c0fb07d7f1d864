package kernel

import "fmt"

// CommandLine is what the kernel was started with: saved_command_line,
// init/main.c (Linux 2.6 to 7.2).
func (k *Kernel) CommandLine() (string, error) {
	addr, err := k.Variable("saved_command_line")
	if err != nil {
		return "", err
	}
	text, err := k.ReadPointer(addr)
	if err == nil {
		var s string
		if s, err = k.ReadString(text, maxCommandLine); err == nil {
			return s, nil
		}
	}
	return "", fmt.Errorf("saved_command_line: %w", err)
}

// Hardware is the machine's name as the kernel prints it at a crash:
// dump_stack_arch_desc_str, lib/dump_stack.c (Linux 3.11 to 7.2); "" if nobody
// gave one.
func (k *Kernel) Hardware() (string, error) {
	addr, err := k.Variable("dump_stack_arch_desc_str")
	if err != nil {
		return "", err
	}
	s, err := k.ReadString(addr, maxHardware)
	if err != nil {
		return "", fmt.Errorf("dump_stack_arch_desc_str: %w", err)
	}
	return s, nil
}

// Bounds of strings, in bytes: COMMAND_LINE_SIZE is at most 8 KiB, and the
// machine's name has 128.
const (
	maxCommandLine = 8 << 10
	maxHardware    = 128
)
