// Package initramfs looks at an initramfs before it is given to a kernel: is it
// whole, how much memory will it take, is there a program to start. The kernel
// itself finds out only when nobody can help any more.
package initramfs
