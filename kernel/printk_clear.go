package kernel

import "fmt"

// LogCleared is the number (Seq) of the first record that was logged after the
// log was last cleared, by dmesg --clear for instance; 0 if it never was.
//
// That is clear_seq of kernel/printk/printk.c (Linux 7.2): a number until 5.11;
// since then two of which the low bit of the count before them says which one
// is whole, for a kernel may die while it writes the other. The error is
// ErrNoInfo for kernels before 5.10, which have another log.
func (k *Kernel) LogCleared() (seq uint64, err error) {
	at, ok := k.info.Symbol("clear_seq")
	if !ok {
		return 0, fmt.Errorf("SYMBOL(clear_seq): %w", ErrNoInfo)
	}
	if _, latched := k.info.Size("latched_seq"); latched {
		val, ok := k.info.Offset("latched_seq.val")
		if !ok || val > maxLogStruct {
			return 0, fmt.Errorf("OFFSET(latched_seq.val): %w", ErrNoInfo)
		}
		count, err := k.ReadUint32(at)
		if err != nil {
			return 0, fmt.Errorf("clear_seq: %w", err)
		}
		at += VirtAddr(val + uint64(count&1)*8)
	}
	if seq, err = k.ReadUint64(at); err != nil {
		return 0, fmt.Errorf("clear_seq: %w", err)
	}
	return seq, nil
}
