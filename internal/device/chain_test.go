package device

import (
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// sysfs has: a virtio disk of QEMU's virt machine with two partitions; an
// SD card behind a controller that needs a clock and a regulator, the
// regulator needing the clock as well, in a circle; a multipath NVMe
// namespace; a device-mapper device; a loop device.
var sysfs = fstest.MapFS{
	"sys/dev/block/254:0": link("../../devices/platform/soc/10008000.virtio_mmio/virtio7/block/vda"),
	"sys/dev/block/254:1": link("../../devices/platform/soc/10008000.virtio_mmio/virtio7/block/vda/vda1"),
	"sys/devices/platform/soc/10008000.virtio_mmio/driver":                           link("../../../../bus/platform/drivers/virtio-mmio"),
	"sys/devices/platform/soc/10008000.virtio_mmio/modalias":                         file("of:NvirtioT(null)Cvirtio,mmio\n"),
	"sys/devices/platform/soc/10008000.virtio_mmio/virtio7/driver":                   link("../../../../../bus/virtio/drivers/virtio_blk"),
	"sys/devices/platform/soc/10008000.virtio_mmio/virtio7/modalias":                 file("virtio:d00000002v554D4551\n"),
	"sys/devices/platform/soc/10008000.virtio_mmio/virtio7/block/vda/uevent":         file("MAJOR=254\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk\n"),
	"sys/devices/platform/soc/10008000.virtio_mmio/virtio7/block/vda/dev":            file("254:0\n"),
	"sys/devices/platform/soc/10008000.virtio_mmio/virtio7/block/vda/size":           file("4194304\n"),
	"sys/devices/platform/soc/10008000.virtio_mmio/virtio7/block/vda/vda1/uevent":    file("MAJOR=254\nMINOR=1\nDEVNAME=vda1\nDEVTYPE=partition\n"),
	"sys/devices/platform/soc/10008000.virtio_mmio/virtio7/block/vda/vda1/dev":       file("254:1\n"),
	"sys/devices/platform/soc/10008000.virtio_mmio/virtio7/block/vda/vda1/size":      file("2097152\n"),
	"sys/devices/platform/soc/10008000.virtio_mmio/virtio7/block/vda/vda1/partition": file("1\n"),
	"sys/bus/platform/drivers/virtio-mmio/module":                                    link("../../../../module/virtio_mmio"),
	"sys/bus/virtio/drivers/virtio_blk/module":                                       link("../../../../module/virtio_blk"),
	"sys/class/block/vda":   link("../../devices/platform/soc/10008000.virtio_mmio/virtio7/block/vda"),
	"sys/class/block/vda1":  link("../../devices/platform/soc/10008000.virtio_mmio/virtio7/block/vda/vda1"),
	"sys/class/block/loop0": link("../../devices/virtual/block/loop0"),

	"sys/dev/block/179:0":                                             link("../../devices/platform/soc/mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0"),
	"sys/devices/platform/soc/mmc/driver":                             link("../../../../bus/platform/drivers/dwmmc_starfive"),
	"sys/devices/platform/soc/mmc/modalias":                           file("of:NmmcT(null)Cstarfive,jh7110-mmc\n"),
	"sys/devices/platform/soc/mmc/supplier:platform:clk":              link("../../../virtual/devlink/platform:clk--platform:mmc"),
	"sys/devices/platform/soc/mmc/supplier:i2c:pmic":                  link("../../../virtual/devlink/i2c:pmic--platform:mmc"),
	"sys/devices/platform/soc/mmc/supplier:gone":                      link("../../../virtual/devlink/gone"),
	"sys/devices/virtual/devlink/platform:clk--platform:mmc/supplier": link("../../../platform/soc/clk"),
	"sys/devices/virtual/devlink/i2c:pmic--platform:mmc/supplier":     link("../../../platform/soc/i2c/i2c-5/5-0036"),
	"sys/devices/platform/soc/clk/driver":                             link("../../../../bus/platform/drivers/jh7110-syscrg"), // built in
	"sys/devices/platform/soc/clk/supplier:i2c:pmic":                  link("../../../virtual/devlink/i2c:pmic--platform:mmc"),
	"sys/devices/platform/soc/i2c/driver":                             link("../../../../bus/platform/drivers/i2c_designware"),
	"sys/devices/platform/soc/i2c/i2c-5/5-0036/driver":                link("../../../../../../bus/i2c/drivers/axp20x"),
	"sys/devices/platform/soc/i2c/i2c-5/5-0036/supplier:platform:clk": link("../../../../../virtual/devlink/platform:clk--platform:mmc"),
	"sys/devices/platform/soc/mmc/mmc_host/mmc0/mmc0:0001/driver":     link("../../../../../../../bus/mmc/drivers/mmcblk"),
	"sys/bus/platform/drivers/dwmmc_starfive/module":                  link("../../../../module/dw_mmc_starfive"),
	"sys/bus/platform/drivers/i2c_designware/module":                  link("../../../../module/i2c_designware_platform"),
	"sys/bus/i2c/drivers/axp20x/module":                               link("../../../../module/axp20x_i2c"),
	"sys/bus/mmc/drivers/mmcblk/module":                               link("../../../../module/mmc_block"),

	"sys/dev/block/259:0": link("../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1"),
	"sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0":        link("../../../pci0000:00/0000:00:02.0/nvme/nvme0"),
	"sys/devices/pci0000:00/0000:00:02.0/driver":                   link("../../../bus/pci/drivers/nvme"),
	"sys/bus/pci/drivers/nvme/module":                              link("../../../../module/nvme"),
	"sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/size": file("8\n"),

	"sys/dev/block/252:0":                               link("../../devices/virtual/block/dm-0"),
	"sys/devices/virtual/block/dm-0/slaves/vda1":        link("../../../../platform/soc/10008000.virtio_mmio/virtio7/block/vda/vda1"),
	"sys/dev/block/7:0":                                 link("../../devices/virtual/block/loop0"),
	"sys/devices/virtual/block/loop0/loop/backing_file": file("/x\n"),
	"sys/devices/virtual/block/loop0/size":              file("0\n"),
	"sys/dev/block/9:9":                                 link("/etc/passwd"),

	// A bus that is built in, with a directory of its own below /sys/module.
	"sys/devices/platform/soc/driver":               link("../../../bus/platform/drivers/simple-pm-bus"),
	"sys/bus/platform/drivers/simple-pm-bus/module": link("../../../../module/simple_pm_bus"),
	"sys/module/simple_pm_bus/uevent":               file(""),

	"sys/module/axp20x_i2c/initstate":              file("live\n"),
	"sys/module/dw_mmc_starfive/initstate":         file("live\n"),
	"sys/module/i2c_designware_platform/initstate": file("live\n"),
	"sys/module/mmc_block/initstate":               file("live\n"),
	"sys/module/nvme/initstate":                    file("live\n"),
	"sys/module/virtio_blk/initstate":              file("live\n"),
	"sys/module/virtio_mmio/initstate":             file("live\n"),
}

func TestDrivers(t *testing.T) {
	const soc = "sys/devices/platform/soc/"
	bus := Driver{soc[:len(soc)-1], "simple-pm-bus", "", ""} // built in
	virtio := []Driver{
		bus,
		{soc + "10008000.virtio_mmio", "virtio-mmio", "virtio_mmio", "of:NvirtioT(null)Cvirtio,mmio"},
		{soc + "10008000.virtio_mmio/virtio7", "virtio_blk", "virtio_blk", "virtio:d00000002v554D4551"},
	}
	for _, c := range []struct {
		what         string
		major, minor uint32
		name         string
		want         []Driver
	}{
		{"disk", 254, 0, "vda", virtio},
		{"partition", 254, 1, "vda1", virtio},
		{"card with suppliers", 179, 0, "mmcblk0", []Driver{
			bus,
			{soc + "i2c", "i2c_designware", "i2c_designware_platform", ""},
			{soc + "clk", "jh7110-syscrg", "", ""},
			{soc + "i2c/i2c-5/5-0036", "axp20x", "axp20x_i2c", ""},
			{soc + "mmc", "dwmmc_starfive", "dw_mmc_starfive", "of:NmmcT(null)Cstarfive,jh7110-mmc"},
			{soc + "mmc/mmc_host/mmc0/mmc0:0001", "mmcblk", "mmc_block", ""},
		}},
		{"multipath namespace", 259, 0, "nvme0n1", []Driver{{"sys/devices/pci0000:00/0000:00:02.0", "nvme", "nvme", ""}}},
	} {
		b, err := FindBlock(sysfs, c.major, c.minor)
		if err != nil {
			t.Errorf("FindBlock(%s): %v", c.what, err)
			continue
		}
		if b.Name != c.name {
			t.Errorf("name of the %s = %q; want %q", c.what, b.Name, c.name)
		}
		got, err := Drivers(sysfs, b)
		if err != nil {
			t.Errorf("Drivers(%s): %v", c.what, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("Drivers(%s) (-want +got):\n%s", c.what, diff)
		}
	}
}

func TestClassDrivers(t *testing.T) {
	fsys := fstest.MapFS{
		"sys/class/watchdog/watchdog0":                      link("../../devices/platform/wdt/watchdog/watchdog0"),
		"sys/devices/platform/wdt/watchdog/watchdog0/state": file("active\n"),
		"sys/devices/platform/wdt/driver":                   link("../../../bus/platform/drivers/starfive-wdt"),
		"sys/bus/platform/drivers/starfive-wdt/module":      link("../../../../module/starfive_wdt"),
		"sys/module/starfive_wdt/initstate":                 file("live\n"),
	}
	got, err := ClassDrivers(fsys, "sys/class/watchdog/watchdog0")
	want := []Driver{{"sys/devices/platform/wdt", "starfive-wdt", "starfive_wdt", ""}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("ClassDrivers: %v (-want +got):\n%s", err, diff)
	}
	if _, err := ClassDrivers(fsys, "sys/class/watchdog/watchdog1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ClassDrivers of no watchdog: %v; want fs.ErrNotExist", err)
	}
}

func TestDriversStacked(t *testing.T) {
	for _, minor := range [][2]uint32{{252, 0}, {7, 0}} {
		b, err := FindBlock(sysfs, minor[0], minor[1])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Drivers(sysfs, b); !errors.Is(err, ErrStacked) {
			t.Errorf("Drivers(%s) = %v, %v; want ErrStacked", b.Name, got, err)
		}
	}
}

func TestFindBlockRefuses(t *testing.T) {
	if b, err := FindBlock(sysfs, 1, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("FindBlock of no device = %+v, %v; want fs.ErrNotExist", b, err)
	}
	if b, err := FindBlock(sysfs, 9, 9); err == nil {
		t.Errorf("FindBlock through a link out of sysfs = %+v; want an error", b)
	}
}

func TestBlockOf(t *testing.T) {
	b, err := BlockOf(sysfs, &Mount{Major: 0, Minor: 40, Type: "btrfs", Source: "/dev/vda1"})
	if err != nil || b.Name != "vda1" || b.Major != 254 || b.Minor != 1 {
		t.Errorf("BlockOf(btrfs on vda1) = %+v, %v", b, err)
	}
	for _, m := range []Mount{
		{Type: "tmpfs", Source: "tmpfs"}, {Type: "nfs4", Source: "server:/export"}, {Type: "btrfs", Source: "/dev/gone"},
		{Type: "btrfs", Source: "/dev/../../etc"},
	} {
		if b, err := BlockOf(sysfs, &m); !errors.Is(err, ErrNotBlock) {
			t.Errorf("BlockOf(%s) = %+v, %v; want ErrNotBlock", m.Source, b, err)
		}
	}
	if _, err := BlockOf(sysfs, &Mount{Type: "btrfs", Source: "/dev/mapper/vg-crash"}); !errors.Is(err, ErrStacked) {
		t.Errorf("BlockOf(btrfs on LVM): %v; want ErrStacked", err)
	}
}

// netfs has a network device of a board, with its PHY on the bus of the device
// itself, and a virtual function of a card.
var netfs = fstest.MapFS{
	"sys/class/net/end0": link("../../devices/platform/soc/16030000.ethernet/net/end0"),
	"sys/devices/platform/soc/16030000.ethernet/driver":                               link("../../../../bus/platform/drivers/dwmac"),
	"sys/devices/platform/soc/16030000.ethernet/net/end0/phydev":                      link("../../mdio_bus/stmmac-0/stmmac-0:00"),
	"sys/devices/platform/soc/16030000.ethernet/mdio_bus/stmmac-0/stmmac-0:00/driver": link("../../../../../../../bus/mdio_bus/drivers/motorcomm"),
	"sys/bus/platform/drivers/dwmac/module":                                           link("../../../../module/dwmac"),
	"sys/bus/mdio_bus/drivers/motorcomm/module":                                       link("../../../../module/motorcomm"),
	"sys/class/net/vf0":                               link("../../devices/pci0000:00/0000:01:00.1/net/vf0"),
	"sys/devices/pci0000:00/0000:01:00.1/physfn":      link("../0000:01:00.0"),
	"sys/devices/pci0000:00/0000:01:00.1/driver":      link("../../../bus/pci/drivers/iavf"),
	"sys/devices/pci0000:00/0000:01:00.1/net/vf0/mtu": file("1500\n"),
	"sys/devices/pci0000:00/0000:01:00.0/driver":      link("../../../bus/pci/drivers/ice"),
	"sys/bus/pci/drivers/iavf/module":                 link("../../../../module/iavf"),
	"sys/bus/pci/drivers/ice/module":                  link("../../../../module/ice"),
	"sys/module/iavf/initstate":                       file("live\n"),
	"sys/module/ice/initstate":                        file("live\n"),
	"sys/module/dwmac/initstate":                      file("live\n"),
	"sys/module/motorcomm/initstate":                  file("live\n"),
}
