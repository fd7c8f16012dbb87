// Package suggest finds the word that somebody meant. It owns how near is near
// enough; it must not know what the words are for. Start reading at [Near].
package suggest

import "strings"

// Near returns the candidate that word was most likely meant to be, or "" when
// none is near: it differs in case alone, in being the plural, or in at most a
// third of its letters, or it begins with word. Of equally near ones the first
// wins.
func Near(word string, candidates []string) string {
	word = strings.ToLower(word)
	best, least := "", len(word)/3+1
	for _, c := range candidates {
		if d := distance(singular(word), singular(strings.ToLower(c))); d < least {
			best, least = c, d
		}
	}
	for _, c := range candidates {
		if best == "" && len(word) >= shortest && strings.HasPrefix(strings.ToLower(c), word) {
			best = c
		}
	}
	return best
}

// singular is a word without the ending that is far from its plural's.
func singular(word string) string {
	if stem, is := strings.CutSuffix(word, "ies"); is {
		return stem + "y"
	}
	return word
}

// shortest is how long a beginning must be to mean the whole.
const shortest = 4

// distance is Levenshtein's: how many bytes to insert, delete or replace.
func distance(a, b string) int {
	if d := len(a) - len(b); d > len(a)/3 || -d > len(a)/3 {
		return len(a) + len(b) // too far in any case: spare the table
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
