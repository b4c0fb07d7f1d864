package lzo

// SetBase makes e believe that it has compressed so many bytes.
func (e *Encoder) SetBase(n uint32) { e.base = n }
