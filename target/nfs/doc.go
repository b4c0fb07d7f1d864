// Package nfs asks an NFS server for a directory, without mounting it: is it there,
// may root write to it, and how much room has it?
//
// A mount of a server that hangs hangs with it, and nobody can call it off. So this
// is a client of its own, of the few requests that need no state on the server: the
// null procedure and COMPOUND of NFS version 4.0 (RFC 7530, 7531), with AUTH_SYS over
// ONC RPC (RFC 5531) and TCP. The dump itself goes through the kernel's client.
package nfs
