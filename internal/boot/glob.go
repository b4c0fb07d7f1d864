package boot

// Match tells whether name has the shape of pattern, as fnmatch(3) without flags
// does for the aliases of modules: '*' is any text, slashes too, '?' one byte,
// '[a-f0]' one byte of a set, '[!a]' one not of it, '\' takes the next byte
// literally. It takes time proportional to the product of the lengths at most.
func Match(pattern, name string) bool {
	// After a mismatch the last star takes one byte more; earlier stars never
	// need to be tried again.
	star, mark := -1, 0
	p, n := 0, 0
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, n
			p++
			continue
		}
		if next, ok := matchOne(pattern, p, name[n]); ok {
			p, n = next, n+1
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		p, n = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne compares c with the one element of the pattern at p, which is not a
// star, and says where the next element begins.
func matchOne(pattern string, p int, c byte) (next int, ok bool) {
	if p >= len(pattern) {
		return 0, false
	}
	switch pattern[p] {
	case '?':
		return p + 1, true
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
	case '[':
		if next, in, ok := matchSet(pattern, p, c); ok {
			return next, in
		}
		// No closing bracket: it stands for itself.
	}
	return p + 1, pattern[p] == c
}

func matchSet(pattern string, p int, c byte) (next int, in, ok bool) {
	i := p + 1
	not := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
	if not {
		i++
	}
	for first := true; i < len(pattern) && (first || pattern[i] != ']'); first = false {
		low, high := pattern[i], pattern[i]
		if i+2 < len(pattern) && pattern[i+1] == '-' && pattern[i+2] != ']' {
			high = pattern[i+2]
			i += 2
		}
		if low <= c && c <= high {
			in = true
		}
		i++
	}
	if i >= len(pattern) {
		return 0, false, false
	}
	return i + 1, in != not, true
}
