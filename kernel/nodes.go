package kernel

import "fmt"

// Node is a node of memory, struct pglist_data. Machines without NUMA have one.
type Node struct {
	ID   int
	Addr VirtAddr
}

// Nodes are the nodes of memory that are online, at most 1024.
func (k *Kernel) Nodes() ([]Node, error) {
	z, err := k.newZoneReader()
	if err != nil {
		return nil, fmt.Errorf("memory nodes: %w", err)
	}
	nodes := make([]Node, len(z.nodes))
	for i, n := range z.nodes {
		nodes[i] = Node{n.id, n.addr}
	}
	return nodes, nil
}
