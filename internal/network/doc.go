// Package network gets a panic kernel to another machine the way that the
// running machine takes now.
//
// The running system is asked over netlink, once: [Record] gives [Facts], plain
// data. [Make] is a pure function from them to a [Plan]: the network devices by
// their permanent hardware addresses, for names change from boot to boot; the
// VLANs and bonds on them; addresses and routes. In the panic kernel, [Plan.Up]
// does what the plan says. It never polls: it waits for what the kernel
// announces.
package network
