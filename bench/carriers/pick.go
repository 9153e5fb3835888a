package carriers

import (
	"fmt"
	"os"
)

// Pick reads shipped profiles by name and those of the user's own files. With
// neither it is all that are shipped.
func Pick(names, files []string) ([]*Profile, error) {
	if len(names)+len(files) == 0 {
		return Shipped()
	}
	profiles, err := Named(names...)
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read carrier profiles: %w", err)
		}
		own, err := Parse(path, text)
		if err != nil {
			return nil, err
		}
		profiles = append(profiles, own...)
	}
	return profiles, nil
}
