package targettest

import (
	"testing"

	"github.com/panicroom-kdump/panicroom/target"
)

func TestMemory(t *testing.T) {
	Run(t, Subject{
		New: func(*testing.T) target.Target { return NewMemory(1 << 30) },
		Read: func(_ *testing.T, tgt target.Target, path, file string) ([]byte, error) {
			return tgt.(*Memory).File(path, file)
		},
		Full: func(*testing.T) target.Target { return NewMemory(128 << 10) },
	})
}
