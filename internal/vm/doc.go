// Package vm runs a machine in QEMU and watches it: its console goes to a file
// and, line by line, to whoever waits for an event. Nothing here sleeps or
// polls; every machine has a hard time limit and none outlives its process.
package vm
