package config

// ReadHub reads the settings of the Event Hub alone, for a program that only sends to it. The error is an
// [*Error].
func ReadHub(lookup Lookup) (Hub, error) {
	var h Hub
	service := EventHub
	r := reader{lookup: lookup, service: &service}
	r.read(h.settings())
	r.checkHub(&h)
	if err := r.err(); err != nil {
		return Hub{}, err
	}
	return h, nil
}
