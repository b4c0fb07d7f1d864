package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
)

// portLink is what udev makes for the port.
const portLink = "/dev/virtio-ports/" + script.Port

// serve is the guest as a process of a distribution: it plays steps that come over
// the port, and ends with it.
func serve() error {
	port, err := os.OpenFile(portLink, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer port.Close()
	g := &guest{port: port, say: os.Stdout}
	// A crash can have cut a line of the kernel before.
	if _, err := port.WriteString("\n"); err != nil {
		return err
	}
	facts, err := machineFacts()
	if err != nil {
		return err
	}
	g.tell(script.Event{Kind: script.Facts, Facts: facts})
	lines := bufio.NewScanner(port)
	lines.Buffer(nil, 1<<20)
	for i := 0; lines.Scan(); i++ {
		var s script.Step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return fmt.Errorf("step %q: %w", lines.Text(), err)
		}
		g.tell(script.Event{Kind: script.Begin, Step: i, Text: s.Name})
		e := g.step(i, s)
		e.Kind, e.Step = script.End, i
		g.tell(e)
	}
	return lines.Err()
}
