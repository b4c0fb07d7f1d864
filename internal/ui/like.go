package ui

import "strings"

// Like finds the word that was meant by one that is none of words: the nearest of
// them, or else the only one that begins with it; "" if there is none.
func Like(word string, words []string) string {
	if word == "" || len(word) > 64 {
		return ""
	}
	word = strings.ToLower(word)
	best, least := "", 1+max(len(word)/3, 1)
	var longer []string
	for _, w := range words {
		if d := distance(word, w); d < least {
			best, least = w, d
		}
		if strings.HasPrefix(w, word) {
			longer = append(longer, w)
		}
	}
	if best == "" && len(longer) == 1 {
		best = longer[0]
	}
	return best
}

// distance counts the letters to insert, remove, change or swap with the next to
// make one word of the other (optimal string alignment).
func distance(a, b string) int {
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(last[j]+change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
