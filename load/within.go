package load

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/internal/host"
)

// within checks that everything lies in the memory that was asked for.
func (p *Plan) within(bounds *host.Range) error {
	if bounds == nil {
		return nil
	}
	refuse := func(format string, args ...any) error {
		return &RuleError{Rule: RuleWithin, Detail: fmt.Sprintf(format, args...),
			Remedy: []string{"ask for no bounds: what is planned obeys every rule of the kernel, and they can only forbid it"}}
	}
	inside := func(r host.Range) bool { return bounds.Start <= r.Start && r.End <= bounds.End }
	switch {
	case p.Method == ByLoad:
		for _, s := range p.Segments {
			if !inside(s.Range()) {
				return refuse("the %s goes to %v, and nothing may be outside of %v", s.Name, s.Range(), *bounds)
			}
		}
	case p.Purpose == ForCrash:
		if main := p.Regions[0]; !inside(main) {
			return refuse("kexec_file_load uses the reserved memory %v as it likes, and nothing may be outside of %v", main, *bounds)
		}
	default:
		return refuse("kexec_file_load takes no addresses, and nothing may be outside of %v", *bounds)
	}
	return nil
}
