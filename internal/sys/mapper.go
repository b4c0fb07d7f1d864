package sys

// MapperTarget is a line of a table of the device mapper: Length sectors of 512
// bytes from Start on are what Type makes of Params.
type MapperTarget struct {
	Start, Length uint64
	Type, Params  string
}
