package spec

import (
	"fmt"
	"strings"
)

// Nearest is the known word that is closest to s by edit distance, or "" if
// none is close. Case, dashes and underscores don't count.
func Nearest(s string, known []string) string {
	if len(s) > 64 {
		return ""
	}
	s = squash(s)
	best, bestAt := "", max(1, len(s)*2/5)+1
	for _, k := range known {
		if d := distance(s, squash(k), bestAt); d < bestAt {
			best, bestAt = k, d
		}
	}
	if best == "" && len(s) >= 4 { // the beginning of a longer word
		for _, k := range known {
			if strings.HasPrefix(squash(k), s) {
				return k
			}
		}
	}
	return best
}

func squash(s string) string {
	return strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(s))
}

// distance is the Damerau-Levenshtein distance (optimal string alignment) of
// two strings, or limit if it is at least that.
func distance(a, b string, limit int) int {
	x, y := []rune(a), []rune(b)
	if len(x)-len(y) >= limit || len(y)-len(x) >= limit {
		return limit
	}
	var before []int
	above := make([]int, len(y)+1)
	for j := range above {
		above[j] = j
	}
	for i := range x {
		row := make([]int, len(y)+1)
		row[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			row[j+1] = min(above[j]+cost, above[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, above = above, row
	}
	return min(above[len(y)], limit)
}

// oneOf lists choices as a sentence does: "a", "b" or "c".
func oneOf(choices []string) string {
	q := make([]string, len(choices))
	for i, c := range choices {
		q[i] = fmt.Sprintf("%q", c)
	}
	if len(q) == 1 {
		return q[0]
	}
	return strings.Join(q[:len(q)-1], ", ") + " or " + q[len(q)-1]
}
