// Package after is the boot after a crash: it finds the crashes that have come
// since it last ran, says so, calls the hooks, posts the webhook, and takes away
// what has to go.
//
// It may run at any time and as often as one likes. What has been told is noted
// before the hooks run, so that a hook never runs twice for a crash, not even one
// that brings the machine down; the webhook is posted until it has arrived.
package after
