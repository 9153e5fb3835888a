package suppress

// Answer is the answer of a pull, for tests.
type Answer struct{ a *answer }

// ParseAnswer reads one.
func ParseAnswer(b []byte) (Answer, error) {
	a, err := parseAnswer(b)
	return Answer{a}, err
}

// Bytes writes it.
func (a Answer) Bytes() []byte { return a.a.append(nil) }
