// Package sshdir is a [target.Target] in a directory of another machine, which
// is reached over SSH and its file transfer protocol.
//
// Nothing of the other machine is believed but a host key that was known when
// the panic kernel was loaded. What is on its way to the other machine is
// bounded, so that a slow line fills no memory; and a line that is dead, which
// TCP may not notice for a quarter of an hour, is given up after [Silence].
//
// The protocol is draft-ietf-secsh-filexfer-02, with the extensions of OpenSSH's
// server (its file PROTOCOL): posix-rename@openssh.com, fsync@openssh.com and
// statvfs@openssh.com are used where the server offers them.
package sshdir
