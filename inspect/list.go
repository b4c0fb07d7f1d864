package inspect

import (
	"fmt"
	"io"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/btf"
	"github.com/panicroom-kdump/panicroom/kernel/value"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// List asks for the objects on a circular list.
type List struct {
	// Member is the list_head in each object, with its type: "task_struct.tasks".
	Member string
	// Head is where the list begins: a list_head of its own or, if Object is set,
	// that of an object of the type.
	Head   string
	Object bool
	// Members are what is wanted of each object; none is its address.
	Members []string
	Hex     bool
}

// maxListed bounds the objects of an answer.
const maxListed = 1 << 16

// Ask answers.
func (q List) Ask(s *Session) (Answer, error) {
	name, path, ok := strings.Cut(q.Member, ".")
	if !ok {
		return nil, &hinted{fmt.Errorf("%q is no member of a type", q.Member), "it is TYPE.MEMBER, like task_struct.tasks"}
	}
	types, err := s.Types()
	if err != nil {
		return nil, err
	}
	t, err := types.Find(name)
	if err != nil {
		return nil, corrupt(err)
	}
	off, err := value.Offset(t.Type, path)
	if err != nil {
		return nil, corrupt(err)
	}
	if m, err := value.MemberType(t.Type, path); err != nil || m.Kind != btf.Struct || m.Name != "list_head" {
		return nil, fmt.Errorf("%s is no list_head", q.Member)
	}
	head, err := s.address(q.Head)
	if err != nil {
		return nil, err
	}
	all := &Objects{Type: t.String(), style: value.Style{Hex: q.Hex}}
	r := value.NewReader(s.k, s.Names())
	add := func(at kernel.VirtAddr) error {
		o := Object{Addr: at}
		if len(q.Members) > 0 {
			o.Members, o.order = make(map[string]value.Value), q.Members
		}
		for _, path := range q.Members {
			v, err := r.Member(t.Type, at, path)
			if err != nil {
				return corrupt(err)
			}
			o.Members[path] = v
		}
		all.Objects = append(all.Objects, o)
		return nil
	}
	if q.Object {
		if err := add(head); err != nil {
			return all.some(), err
		}
		head += kernel.VirtAddr(off)
	}
	for at, err := range s.k.List(head, off) {
		if err == nil && len(all.Objects) == maxListed {
			err = fmt.Errorf("more than %d objects are not listed", maxListed)
		}
		if err == nil {
			err = add(at)
		}
		if err != nil {
			return all.some(), err
		}
	}
	if all.Objects == nil {
		all.Objects = []Object{}
	}
	return all, nil
}

// Translate asks where virtual addresses are in memory.
type Translate struct{ At []string }

// Places are where virtual addresses are in memory.
type Places struct {
	Places []Place `json:"places"`
}

// Place is one of them.
type Place struct {
	Virtual  kernel.VirtAddr `json:"virtual"`
	Physical kernel.VirtAddr `json:"physical"` // a number in hexadecimal, too
	PFN      vmcore.PFN      `json:"pfn"`
	// Missing says why memory is not in the dump, if it is not.
	Missing string `json:"missing,omitempty"`
}

// Ask answers.
func (q Translate) Ask(s *Session) (Answer, error) {
	all := &Places{}
	for _, text := range q.At {
		va, err := s.address(text)
		var pa vmcore.PhysAddr
		if err == nil {
			pa, err = s.k.Translate(va)
		}
		if err != nil {
			if len(all.Places) == 0 {
				return nil, err
			}
			return all, err
		}
		p := Place{Virtual: va, Physical: kernel.VirtAddr(pa), PFN: vmcore.PFN(uint64(pa) / s.k.Arch().PageSize)}
		if _, err := s.k.Memory().ReadPhys(make([]byte, 1), pa); err != nil {
			p.Missing = err.Error()
		}
		all.Places = append(all.Places, p)
	}
	return all, nil
}

// Write writes a table.
func (p *Places) Write(w io.Writer, _ int) error {
	fmt.Fprintf(w, "%-16s  %-16s  %s\n", "VIRTUAL", "PHYSICAL", "PAGE")
	for _, one := range p.Places {
		s := fmt.Sprintf("%016x  %016x  %d", uint64(one.Virtual), uint64(one.Physical), one.PFN)
		if one.Missing != "" {
			s += "  (" + one.Missing + ")"
		}
		if _, err := fmt.Fprintln(w, s); err != nil {
			return err
		}
	}
	return nil
}
