package deflate

import (
	"math/bits"
	"slices"
)

// code is a Huffman code.
type code struct {
	count [numLiterals]uint32 // of each symbol
	bits  [numLiterals]uint8  // length of its code; 0: the symbol does not occur
	codes [numLiterals]uint16 // as they are written, the first bit lowest
	order [numLiterals]uint32 // symbols that occur, the rarest first
	tree  [numLiterals]uint32
}

// size is how many bits the first n symbols take, each as often as it occurs.
func (c *code) size(n int) int {
	size := 0
	for i := range n {
		size += int(c.count[i]) * int(c.bits[i])
	}
	return size
}

// build makes the code for the first n symbols, of at most limit bits each.
func (c *code) build(n, limit int) {
	used := c.order[:0]
	for i, count := range c.count[:n] {
		if count > 0 {
			used = append(used, count<<9|uint32(i))
		}
	}
	clear(c.bits[:n])
	switch len(used) {
	case 0:
		// Readers want one code of one bit.
		c.bits[0], c.codes[0] = 1, 0
		return
	case 1:
		symbol := used[0] & 511
		c.bits[symbol], c.codes[symbol] = 1, 0
		return
	}
	slices.Sort(used)
	// How many codes there are of each length.
	var lengths [maxBits + 1]int
	c.depths(used, limit, &lengths)
	// The rarest have the longest.
	at := 0
	for length := limit; length > 0; length-- {
		for range lengths[length] {
			c.bits[used[at]&511] = uint8(length)
			at++
		}
	}
	// Codes of a length are numbers in a row, in the order of symbols; RFC
	// 1951, section 3.2.2.
	var next [maxBits + 2]uint16
	for length := 1; length <= limit; length++ {
		next[length+1] = (next[length] + uint16(lengths[length])) << 1
	}
	for i, length := range c.bits[:n] {
		if length > 0 {
			c.codes[i] = bits.Reverse16(next[length]) >> (16 - length)
			next[length]++
		}
	}
}

// depths finds the lengths of codes for two or more symbols, sorted by how
// often they occur.
//
// Trees are joined, the two rarest first, as Huffman has it. Joined ones come
// out in ascending order, so that two queues serve: the symbols, and the trees
// in the order in which they were made. A tree keeps its count until it is
// joined, then the number of the one above it, then its depth.
func (c *code) depths(used []uint32, limit int, lengths *[maxBits + 1]int) {
	n := len(used)
	symbol, tree := 0, 0
	leaves := [numLiterals]uint8{} // of each tree
	for made := range n - 1 {
		sum := uint32(0)
		for range 2 {
			if symbol < n && (tree >= made || used[symbol]>>9 <= c.tree[tree]) {
				sum += used[symbol] >> 9
				leaves[made]++
				symbol++
			} else {
				sum += c.tree[tree]
				c.tree[tree] = uint32(made)
				tree++
			}
		}
		c.tree[made] = sum
	}
	c.tree[n-2] = 0
	for i := n - 2; i >= 0; i-- {
		if i < n-2 {
			c.tree[i] = c.tree[c.tree[i]] + 1
		}
		lengths[min(int(c.tree[i])+1, limit)] += int(leaves[i])
	}
	// Codes that were cut to the limit take more than there is. A shorter code
	// is made one longer, and the place beside it is for one of those cut.
	sum := 0
	for length := 1; length <= limit; length++ {
		sum += lengths[length] << (limit - length)
	}
	for ; sum > 1<<limit; sum-- {
		length := limit - 1
		for lengths[length] == 0 {
			length--
		}
		lengths[length]--
		lengths[length+1] += 2
		lengths[limit]--
	}
}
