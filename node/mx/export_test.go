package mx

// ParseAnswer is the handler of foreign bytes, for the fuzzer.
func ParseAnswer(packet []byte, id uint16, name string, qtype uint16) (hosts, addrs int, names, texts []string, err error) {
	r, err := parse(packet, id, key{name, qtype})
	if err != nil {
		return 0, 0, nil, nil, err
	}
	for _, m := range r.mx {
		names = append(names, m.host)
	}
	return len(r.mx), len(r.addrs), names, r.texts, nil
}
