package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/vm"
)

// Firmware is what starts the first kernel.
type Firmware string

const (
	// OpenSBI, the zero value, starts the kernel itself: all that the kernel
	// learns of the machine is in the device tree.
	OpenSBI Firmware = ""
	// UBoot is Debian's U-Boot, started by OpenSBI. It starts the kernel as an
	// EFI program, from a disk: memory map and runtime services are EFI's, the
	// device tree is there as well.
	UBoot Firmware = "u-boot"
	// EDK2 is Debian's EDK II, started by OpenSBI. It starts the kernel as an EFI
	// program and describes the machine with ACPI tables only. QEMU makes these
	// on riscv64 since 8.0, so the emulator is trixie's, not this machine's.
	EDK2 Firmware = "edk2"
)

// start makes c start the scenario's firmware, and that the kernel.
func (s *Scenario) start(ctx context.Context, o *Outcome, c *vm.Config) error {
	var err error
	switch s.Firmware {
	case OpenSBI:
	case UBoot:
		err = s.throughUBoot(ctx, o, c)
	case EDK2:
		err = s.throughEDK2(ctx, o, c)
	default:
		err = errors.New("not known")
	}
	if err != nil {
		return fmt.Errorf("firmware %q: %w", s.Firmware, err)
	}
	return nil
}

// firmwareFiles are those of a run that firmware needs; see Run.
var firmwareFiles = []string{bootImage, flashImage, emulator}

const (
	bootImage  = "boot.img"  // U-Boot's disk
	flashImage = "flash.img" // EDK II's variables
	emulator   = "emulator"
)

// bootSerial is the serial of the disk that the firmware starts from.
const bootSerial = "boot"

// throughUBoot makes c start U-Boot, and the disk from which U-Boot starts
// kernel and initramfs. Of those c has, none are left.
func (s *Scenario) throughUBoot(ctx context.Context, o *Outcome, c *vm.Config) error {
	uBoot, err := fetchUBoot(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(o.Dir, "boot")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for name, from := range map[string]string{"kernel": c.Kernel, "initramfs": c.Initrd} {
		if err := copyFile(filepath.Join(dir, name), from); err != nil {
			return err
		}
	}
	text, err := bootScript(c.Cmdline)
	if err != nil {
		return err
	}
	// U-Boot looks for this name on every disk.
	if err := os.WriteFile(filepath.Join(dir, "boot.scr"), scriptImage(text), 0o600); err != nil {
		return err
	}
	if err := os.Remove(c.Initrd); err != nil {
		return err
	}
	disk := filepath.Join(o.Dir, bootImage)
	if err := bootDisk(ctx, disk, dir); err != nil {
		return err
	}
	c.Disks = append(c.Disks, vm.Disk{Path: disk, Serial: bootSerial, ReadOnly: true})
	c.Kernel, c.Initrd, c.Cmdline = uBoot, "", ""
	return nil
}

// fetchUBoot is Debian's U-Boot for QEMU, built for supervisor mode: OpenSBI starts
// it as it would a kernel.
func fetchUBoot(ctx context.Context) (string, error) {
	root, err := FetchSysroot(ctx, SysrootOptions{Suite: "trixie", Arch: "riscv64", Packages: []string{"u-boot-qemu"}})
	return filepath.Join(root, "usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin"), err
}

// throughEDK2 makes c start EDK II in an emulator that has ACPI tables for it.
// Kernel and initramfs it takes from QEMU itself.
func (s *Scenario) throughEDK2(ctx context.Context, o *Outcome, c *vm.Config) error {
	if s.SV != 0 || s.Nodes > 1 {
		return errors.New("paging modes and memory nodes are made in the device tree, which this firmware does not show the kernel")
	}
	root, err := FetchSysroot(ctx, SysrootOptions{Suite: "trixie", Packages: []string{"qemu-system-riscv", "qemu-efi-riscv64"}})
	if err != nil {
		return err
	}
	// The C library of this machine may be older than the emulator wants.
	program := filepath.Join(o.Dir, emulator)
	lib := filepath.Join(root, "usr/lib/x86_64-linux-gnu")
	text := fmt.Sprintf("#!/bin/sh\nexec %q --library-path %q %q -L %q \"$@\"\n",
		filepath.Join(lib, "ld-linux-x86-64.so.2"), lib, filepath.Join(root, "usr/bin/qemu-system-riscv64"), filepath.Join(root, "usr/share/qemu"))
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		return err
	}
	images := filepath.Join(root, "usr/share/qemu-efi-riscv64")
	vars := filepath.Join(o.Dir, flashImage)
	if err := copyFile(vars, filepath.Join(images, "RISCV_VIRT_VARS.fd")); err != nil {
		return err
	}
	arch := *vm.RISCV64()
	arch.BIOS = filepath.Join(root, "usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin")
	arch.Machine += ",pflash0=code,pflash1=vars"
	c.Arch, c.Program = &arch, program
	c.Extra = append(slices.Clone(c.Extra),
		"-blockdev", "driver=file,node-name=code,read-only=on,filename="+filepath.Join(images, "RISCV_VIRT_CODE.fd"),
		"-blockdev", "driver=file,node-name=vars,filename="+vars)
	return nil
}

// bootScript is what U-Boot shall do. The kernel's EFI stub fetches the
// initramfs itself, from the disk that it was started from.
func bootScript(cmdline string) (string, error) {
	if strings.ContainsAny(cmdline, "'\\\n") {
		return "", fmt.Errorf("command line %q cannot be quoted for U-Boot", cmdline)
	}
	return strings.Join([]string{
		"setenv bootargs 'initrd=initramfs " + cmdline + "'",
		"load ${devtype} ${devnum}:${distro_bootpart} ${kernel_addr_r} kernel",
		// Without a size it is the file just loaded, and its disk is known.
		"bootefi ${kernel_addr_r} ${fdtcontroladdr}",
		"reset", // not reached; without it a failure would wait at the prompt
		"",
	}, "\n"), nil
}

// scriptImage packs a script as U-Boot wants it: a header, a list of lengths
// that ends with 0, and the text (include/image.h of 2025.01, struct
// legacy_img_hdr; what mkimage -T script makes).
func scriptImage(text string) []byte {
	be := binary.BigEndian
	data := be.AppendUint32(nil, uint32(len(text)))
	data = append(be.AppendUint32(data, 0), text...)
	h := make([]byte, 64)
	be.PutUint32(h[0:], 0x27051956)
	be.PutUint32(h[12:], uint32(len(data)))
	be.PutUint32(h[24:], crc32.ChecksumIEEE(data))
	h[28] = 5  // IH_OS_LINUX
	h[29] = 26 // IH_ARCH_RISCV
	h[30] = 6  // IH_TYPE_SCRIPT
	be.PutUint32(h[4:], crc32.ChecksumIEEE(h))
	return append(h, data...)
}

// bootDisk makes a disk with one bootable partition that has the files of dir.
// U-Boot reads ext4 as well as the FAT of a real EFI system partition, also for
// EFI programs, and the tools for ext4 are here anyway.
func bootDisk(ctx context.Context, path, dir string) error {
	mkfs, err := program("mkfs.ext4", "e2fsprogs")
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var files int64
	for _, e := range entries {
		st, err := e.Info()
		if err != nil {
			return err
		}
		files += st.Size()
	}
	size := (files + files/16 + 16<<20) &^ (1<<20 - 1)
	if err := partition(path, size); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, mkfs, "-q", "-F", "-m", "0", "-O", "^has_journal",
		"-E", fmt.Sprintf("root_owner=0:0,offset=%d", partitionStart), "-d", dir, path, fmt.Sprintf("%dk", size>>10)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return nil
}

// partitionStart is where the partition of a disk begins.
const partitionStart = 1 << 20

// partition makes a sparse image with one bootable partition of size bytes.
func partition(path string, size int64) error {
	const sector = 512
	mbr := make([]byte, sector)
	le := binary.LittleEndian
	p := mbr[446:]
	p[0], p[4] = 0x80, 0x83 // active, Linux
	le.PutUint32(p[8:], partitionStart/sector)
	le.PutUint32(p[12:], uint32(size/sector))
	mbr[510], mbr[511] = 0x55, 0xaa
	if err := os.WriteFile(path, mbr, 0o600); err != nil {
		return err
	}
	return os.Truncate(path, partitionStart+size)
}

func copyFile(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}
