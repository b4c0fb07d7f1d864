// Package capture saves the memory of a dead kernel: its log first, then the
// pages that are worth keeping, compressed, into a file that crash, drgn,
// libkdumpfile and makedumpfile open.
//
// Memory is bounded whatever the size of the dead machine. Nothing that was
// saved is lost: a page that cannot be read costs that page, and a full disk or
// a deadline leaves a valid dump marked as incomplete. What decides that a page
// is left out is checked against what must be true of any kernel, and when the
// check fails, more is kept.
package capture
