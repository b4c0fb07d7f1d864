// Package lab is where real kernels are crashed: it fetches them from the
// Debian archive, builds the machine around them (initramfs, disk, device
// tree), runs a scenario in QEMU and brings back what the crash left behind.
//
// Packages come through apt's own machinery in a private state directory, so
// that the machine's apt configuration (mirror, proxies) counts, signatures
// are checked by apt, and nothing is installed. What was fetched is kept under
// ~/.cache/panicroom (XDG_CACHE_HOME and PANICROOM_CACHE move it).
package lab
