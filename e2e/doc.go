// Package e2e crashes real kernels and looks at what is saved of them. The
// tests need QEMU and an hour of patience in all, so they are built with the
// tag e2e only: make test runs them, and
//
//	go test -tags e2e -count=1 -run 'TestMatrix/6.12/sv57' ./e2e
//
// runs one. What a run leaves is below out/e2e (OUT moves it): the console,
// the guest's events, and after a failure its disk. Packages below: lab makes
// the machines, guest is what runs in them, demo and compare are for people.
package e2e
