package inspect

import (
	"io"

	"github.com/panicroom-kdump/panicroom/kernel/block"
	"github.com/panicroom-kdump/panicroom/kernel/fs"
	"github.com/panicroom-kdump/panicroom/kernel/net"
	"github.com/panicroom-kdump/panicroom/report"
)

// Mounts asks what was mounted.
type Mounts struct{}

// MountList are mounts.
type MountList struct {
	Mounts []fs.Mount `json:"mounts"`
}

// Ask answers.
func (Mounts) Ask(s *Session) (Answer, error) {
	all, err := fs.Mounts(s.k)
	if len(all) == 0 && err != nil {
		return nil, err
	}
	return &MountList{all}, err
}

// Write writes a table.
func (l *MountList) Write(w io.Writer, width int) error {
	return report.WriteMounts(w, width, l.Mounts)
}

// Disks asks which disks there were, and what they had not answered.
type Disks struct{}

// DiskList are disks.
type DiskList struct {
	Disks []block.Disk `json:"disks"`
}

// Ask answers.
func (Disks) Ask(s *Session) (Answer, error) {
	all, err := block.Disks(s.k)
	if len(all) == 0 && err != nil {
		return nil, err
	}
	return &DiskList{all}, err
}

// Write writes a table.
func (l *DiskList) Write(w io.Writer, width int) error { return report.WriteDisks(w, width, l.Disks) }

// Interfaces asks for network interfaces.
type Interfaces struct{}

// InterfaceList are network interfaces.
type InterfaceList struct {
	Interfaces []net.Interface `json:"interfaces"`
}

// Ask answers.
func (Interfaces) Ask(s *Session) (Answer, error) {
	all, err := net.Interfaces(s.k)
	if len(all) == 0 && err != nil {
		return nil, err
	}
	return &InterfaceList{all}, err
}

// Write writes a table.
func (l *InterfaceList) Write(w io.Writer, width int) error {
	return report.WriteInterfaces(w, width, l.Interfaces)
}
