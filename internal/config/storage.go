package config

// ReadStorage reads the settings of storage alone, for a program that reads what is stored. Without a container in the
// settings it is "" in the result. The error is an [*Error].
func ReadStorage(lookup Lookup) (Storage, error) {
	var s Storage
	r := reader{lookup: lookup, service: new(Service)}
	r.read(storageConnectionSettings(&s.Connection))
	for _, each := range s.settings() {
		each.required = false
		r.read([]setting{each})
	}
	r.checkStorage(&s.Connection)
	if err := r.err(); err != nil {
		return Storage{}, err
	}
	return s, nil
}

// ReadStorageIdentity reads how an identity proves itself to storage that is named otherwise than by settings: what
// goes with a blob service's URI. The error is an [*Error].
func ReadStorageIdentity(lookup Lookup, uri string) (Connection, error) {
	c := Connection{}
	r := reader{lookup: lookup, service: new(Service)}
	r.read(identitySettings(&c, storageSetting, "storage"))
	c.BlobServiceURI = uri
	c.checkForm(&r, storageSetting, uri, suffixBlobService)
	return c, r.err()
}
