package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
)

// editDTB gives the machine another paging mode, more memory nodes and a seed
// for the kernel's address, which QEMU's own device tree does not have.
//
// Newer kernels take no more page-table levels than mmu-type offers, and QEMU
// 7.2 offers four of the five that it has. Two sockets, QEMU's way to two
// memory nodes, bring a second interrupt controller with them, and with that
// 7.2 kernels do not come up; the nodes alone they take.
func editDTB(blob []byte, sv, nodes int, seed uint64) ([]byte, error) {
	tree, err := fdt.Parse(blob)
	if err != nil {
		return nil, err
	}
	cpus := tree.Root.Child("cpus")
	if cpus == nil {
		return nil, errors.New("device tree has no /cpus")
	}
	i := 0
	for _, cpu := range cpus.Children() {
		if kind, _ := cpu.String("device_type"); kind != "cpu" {
			continue
		}
		if sv != 0 {
			cpu.SetString("mmu-type", "riscv,sv"+strconv.Itoa(sv))
		}
		if nodes > 1 {
			cpu.SetU32("numa-node-id", uint32(i%nodes))
		}
		i++
	}
	if nodes > 1 {
		if err := splitMemory(tree, nodes); err != nil {
			return nil, err
		}
	}
	if seed != 0 {
		tree.Ensure("/chosen").Set("kaslr-seed", binary.BigEndian.AppendUint64(nil, seed))
	}
	return tree.Marshal()
}

// splitMemory makes equal memory nodes of the one that is there.
func splitMemory(tree *fdt.Tree, nodes int) error {
	var memory []*fdt.Node
	for _, n := range tree.Root.Children() {
		if kind, _ := n.String("device_type"); kind == "memory" {
			memory = append(memory, n)
		}
	}
	if len(memory) != 1 {
		return fmt.Errorf("device tree has %d memory nodes; want 1", len(memory))
	}
	regs, err := memory[0].Regs()
	if err != nil || len(regs) != 1 {
		return fmt.Errorf("%s has %d ranges (%v); want 1", memory[0].Path(), len(regs), err)
	}
	tree.Root.RemoveChild(memory[0])
	size := regs[0].Size / uint64(nodes)
	for i := range nodes {
		part := fdt.Range{Address: regs[0].Address + uint64(i)*size, Size: size}
		n := tree.Root.AddChild(fmt.Sprintf("memory@%x", part.Address))
		n.SetString("device_type", "memory")
		// Cells of the root's children, so of any of them.
		value, err := n.EncodeRanges(part)
		if err != nil {
			return err
		}
		n.Set("reg", value)
		n.SetU32("numa-node-id", uint32(i))
	}
	var matrix []byte
	for a := range nodes {
		for b := range nodes {
			distance := 20
			if a == b {
				distance = 10
			}
			for _, v := range []int{a, b, distance} {
				matrix = binary.BigEndian.AppendUint32(matrix, uint32(v))
			}
		}
	}
	d := tree.Root.AddChild("distance-map")
	d.SetString("compatible", "numa-distance-map-v1")
	d.Set("distance-matrix", matrix)
	return nil
}
