package mm

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Bounds of slab caches: kernels have some hundreds of them.
const (
	maxCaches      = 1 << 14
	maxCacheName   = 128
	maxCacheErrors = 5
	maxSlabOrder   = 20
)

// Caches are the slab caches, those with the most memory first. It reads what
// SLUB counts (mm/slub.c, Linux 6.1 to 7.2); the error is ErrNoInfo for a
// kernel that counts nothing (without CONFIG_SLUB_DEBUG) or has another
// allocator, and there can be caches along with an error about others.
//
// Their sum is less than what [Summary] says of slabs: there, objects of more
// than two pages (8 KiB), which have pages of their own and no cache, are
// counted too.
func Caches(k *kernel.Kernel) ([]Cache, error) {
	r, err := newCacheReader(k)
	if err != nil {
		return nil, fmt.Errorf("slab caches: %w", err)
	}
	var all []Cache
	var errs []error
	for addr, err := range k.List(r.head, r.cache.Offset("list")) {
		var c Cache
		if err == nil && len(all) == maxCaches {
			err = fmt.Errorf("more than %d slab caches: %w", maxCaches, kernel.ErrCorrupt)
			errs = append(errs, err)
			break
		}
		if err == nil {
			if c, err = r.read(addr); err != nil {
				err = fmt.Errorf("slab cache %s at %#x: %w", c.Name, uint64(addr), err)
			}
		} else {
			err = fmt.Errorf("slab caches: %w", err)
		}
		if err != nil {
			if errs = append(errs, err); len(errs) == maxCacheErrors {
				break
			}
			continue
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b Cache) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name))
	})
	return all, errors.Join(errs...)
}

// cacheReader knows where SLUB keeps its counts.
type cacheReader struct {
	k     *kernel.Kernel
	page  uint64
	head  kernel.VirtAddr
	nodes []kernel.Node

	cache, orders, node *kernel.StructReader
	// Where the pointer to the first node's counts is in a cache, how far
	// from one node to the next, and where all end.
	first, step, end uint64
}

func newCacheReader(k *kernel.Kernel) (*cacheReader, error) {
	r := &cacheReader{k: k, page: k.Arch().PageSize}
	var err error
	if r.cache, err = k.Struct("kmem_cache", "name", "list", "object_size", "oo", "min", "?node", "?per_node"); err != nil {
		return nil, err
	}
	if r.orders, err = k.Struct("kmem_cache_order_objects", "x"); err != nil {
		return nil, err
	}
	if r.node, err = k.Struct("kmem_cache_node", "nr_slabs", "total_objects"); err != nil {
		return nil, err
	}
	// Up to 7.0 an array of pointers, then one of structs with such a pointer.
	f, ok := r.cache.Field("node")
	r.first, r.step = f.Offset, 8
	if !ok {
		per, err := k.Struct("kmem_cache_per_node_ptrs", "node")
		if f, ok = r.cache.Field("per_node"); !ok || err != nil {
			return nil, fmt.Errorf("kmem_cache.node: %w", kernel.ErrNoInfo)
		}
		r.first, r.step = f.Offset+per.Offset("node"), per.Size()
	}
	r.end = f.Offset + f.Size
	if r.head, err = k.Variable("slab_caches"); err != nil {
		return nil, err
	}
	r.nodes, err = k.Nodes()
	return r, err
}

func (r *cacheReader) read(addr kernel.VirtAddr) (Cache, error) {
	// A cache ends with the nodes that the machine has; the type has room for
	// all that it could have.
	o, err := r.cache.Head(addr, r.first)
	if err != nil {
		return Cache{}, err
	}
	c := Cache{Addr: addr, Object: o.Uint("object_size")}
	if c.Name, err = r.k.ReadString(o.Pointer("name"), maxCacheName); err != nil {
		return c, fmt.Errorf("name: %w", err)
	}
	for _, n := range r.nodes {
		at := r.first + uint64(n.ID)*r.step
		if at+8 > r.end {
			return c, fmt.Errorf("node %d: %w", n.ID, kernel.ErrCorrupt)
		}
		p, err := r.k.ReadPointer(addr + kernel.VirtAddr(at))
		if err != nil {
			return c, err
		}
		if p == 0 {
			continue // a node without memory
		}
		node, err := r.node.At(p)
		if err != nil {
			return c, err
		}
		slabs, objects := node.Uint("nr_slabs"), node.Uint("total_objects")
		if slabs > maxPages || objects > maxPages {
			return c, fmt.Errorf("%d slabs with %d objects: %w", slabs, objects, kernel.ErrCorrupt)
		}
		c.Slabs += slabs
		c.Objects += objects
	}
	c.Bytes, err = r.bytes(c, r.orders.In(o, "oo", 0).Uint("x"), r.orders.In(o, "min", 0).Uint("x"))
	return c, err
}

// bytes are in the slabs of a cache. All have the order that the cache wants,
// but for those that were made when there were no such pages: they have the
// least order that will do. Each has as many objects as fit, so how many
// objects are lacking tells how many slabs are small. An order and the objects
// that fit are one number with 16 bits for the objects (OO_SHIFT).
func (r *cacheReader) bytes(c Cache, wanted, least uint64) (uint64, error) {
	order, fit := wanted>>16, wanted&0xffff
	low, few := least>>16, least&0xffff
	if order > maxSlabOrder || low > order || few > fit || c.Slabs > maxPages>>order {
		return 0, fmt.Errorf("%d slabs of order %d or %d: %w", c.Slabs, order, low, kernel.ErrCorrupt)
	}
	var small uint64
	if few < fit && c.Objects < c.Slabs*fit {
		small = min(c.Slabs, (c.Slabs*fit-c.Objects)/(fit-few))
	}
	return ((c.Slabs-small)<<order + small<<low) * r.page, nil
}
