package getopt

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func program() *Program {
	return &Program{Name: "prog", Groups: []Group{"What", NoEffect, Without}, Options: []Option{
		{Long: "load", Short: 'l', Group: "What", Help: "load"},
		{Long: "level", Short: 'v', Value: "N", Group: "What", Help: "a level"},
		{Short: 'd', Value: "N", Group: "What", Help: "a level without a long name"},
		{Long: "log", Group: "What", Help: "of another machine", Elsewhere: "arm"},
		{Long: "quick", Group: NoEffect, Support: Ignored, Why: "it is quick"},
		{Short: 'q', Group: NoEffect, Support: Ignored, Why: "it is quick"},
		{Long: "fly", Short: 'f', Group: Without, Support: Refused, Why: "it cannot", Instead: "walk"},
	}}
}

func TestScan(t *testing.T) {
	for _, c := range []struct {
		args     string
		options  string // name=value of each
		operands string
	}{
		{"a -l b", "--load", "a b"},
		{"-ld31 a", "--load -d=31", "a"},
		{"-d 31 --lev 3 -v4", "-d=31 --level=3 --level=4", ""},
		{"--level=a=b --", "--level=a=b", ""},
		{"--loa - -- -l --load", "--load", "- -l --load"},
		{"-d -- -l", "-d=-- --load", ""},
		{"--log", "--log", ""},
		{"--lo", "--load", ""}, // what is of another machine does not count
	} {
		options, operands, err := program().Scan(strings.Fields(c.args))
		var names []string
		for _, g := range options {
			if g.Value != "" {
				names = append(names, g.Name()+"="+g.Param)
			} else {
				names = append(names, g.Name())
			}
		}
		if got := strings.Join(names, " "); err != nil || got != c.options || strings.Join(operands, " ") != c.operands {
			t.Errorf("%q: %q, %q, %v; want %q, %q", c.args, got, operands, err, c.options, c.operands)
		}
	}
	for args, says := range map[string]string{
		"--l":      "--l is ambiguous: --load, --level",
		"--d":      `no option is called "--d"`,
		"-ly":      `no option is called -y, as in "-ly"`,
		"-load":    "long options have two dashes: --load",
		"--load=1": "takes no value",
		"-d":       "needs a value: -d N",
		"--level":  "needs a value: --level=N",
		"--":       "",
		"--leval":  "did you mean --level?",
		"--'load'": "a quotation mark or a space too much; --load is an option",
	} {
		_, _, err := program().Scan([]string{args})
		var e *Error
		if says == "" {
			if err != nil {
				t.Errorf("%q: %v", args, err)
			}
			continue
		}
		if !errors.As(err, &e) || !errors.Is(err, ErrUsage) || !strings.Contains(e.Error()+strings.Join(e.Remedy, ""), says) {
			t.Errorf("%q: %v; want %q", args, err, says)
		}
	}
}

func TestSift(t *testing.T) {
	scan := func(args ...string) []Given {
		options, _, err := program().Scan(args)
		if err != nil {
			t.Fatal(err)
		}
		return options
	}
	obeyed, ignored, err := Sift(scan("-q", "-l", "--quick", "-q", "-d", "1"))
	names := func(list []Option) (all []string) {
		for _, o := range list {
			all = append(all, o.Name())
		}
		return all
	}
	if err != nil || len(obeyed) != 2 || obeyed[0].Long != "load" || !slices.Equal(names(ignored), []string{"--quick", "-q"}) {
		t.Errorf("%v, %v, %v", obeyed, names(ignored), err)
	}
	_, _, err = Sift(scan("-l", "--fl"))
	if !errors.Is(err, ErrUnsupported) || err.Error() != "not supported: --fl (--fly): it cannot" {
		t.Errorf("%v", err)
	}
}

func TestList(t *testing.T) {
	const want = `
What:
  -l, --load               load
  -v, --level=N            a level
  -d N                     a level without a long name
      --log                of another machine

Accepted, without an effect here:
      --quick              it is quick
  -q                       it is quick

Refused:
  --fly
`
	if got := program().List(); got != want {
		t.Errorf("%s\nwant%s", got, want)
	}
}
