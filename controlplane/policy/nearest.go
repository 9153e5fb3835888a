package policy

// Nearest is the word that a slip or two could have turned into the given one,
// "" when there is none. It serves every "did you mean". Of equally near words
// the first wins.
func Nearest(word string, words []string) string {
	best, least := "", min(3, max(1, len(word)/2))+1
	for _, w := range words {
		if d := slips(word, w); d < least && d < len(w) {
			best, least = w, d
		}
	}
	return best
}

// slips is the optimal string alignment distance: letters added, left out,
// changed or swapped with their neighbour. Words that nobody types by hand
// count as far from everything.
func slips(a, b string) int {
	const long = 64
	if len(a) > long || len(b) > long {
		return long
	}
	var rows [3][long + 1]int // the row before last, the last, this one
	for j := range len(b) + 1 {
		rows[1][j] = j
	}
	for i := range len(a) {
		rows[2][0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			d := min(rows[1][j+1]+1, rows[2][j]+1, rows[1][j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, rows[0][j-1]+1)
			}
			rows[2][j+1] = d
		}
		rows[0], rows[1] = rows[1], rows[2]
	}
	return rows[1][len(b)]
}
