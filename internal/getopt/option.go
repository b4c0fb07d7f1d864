package getopt

// Support is what becomes of an option.
type Support int

// What becomes of options.
const (
	Obeyed  Support = iota // does what it does in the program it is of
	Ignored                // accepted; it would change nothing here, Why says why not
	Refused                // cannot be had; Why says why, Instead what to do
)

// Option is an option of a program.
type Option struct {
	Long  string // "" if it has only a short name
	Short byte   // 0 if there is none
	Value string // what its value is, "" if it takes none
	Group Group
	Help  string // what it does, if it is obeyed

	Support Support
	Why     string
	Instead string

	// Elsewhere names where the option is known, if the program does not have
	// it on these machines or in its newest release. Such options are not found
	// by an abbreviation that fits another one.
	Elsewhere string
}

// Name is the option as it is written, without its value: --load or -c.
func (o *Option) Name() string {
	if o.Long == "" {
		return "-" + string(o.Short)
	}
	return "--" + o.Long
}

// Spelled is the name with what its value is: --initrd=FILE or -d LEVEL.
func (o *Option) Spelled() string {
	switch {
	case o.Value == "":
		return o.Name()
	case o.Long == "":
		return o.Name() + " " + o.Value
	}
	return o.Name() + "=" + o.Value
}

// Text says what the option does, or why it does nothing.
func (o *Option) Text() string {
	switch o.Support {
	case Obeyed:
		return o.Help
	case Ignored:
		return o.Why
	}
	return o.Why + ". Instead: " + o.Instead
}

// Group is a paragraph of the list of options.
type Group string

// The groups that every program has, the last of its list.
const (
	NoEffect Group = "Accepted, without an effect here"
	Without  Group = "Refused"
)

// Program is a program and its options.
type Program struct {
	Name    string
	Options []Option
	Groups  []Group // in the order of the list
}
