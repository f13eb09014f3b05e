package config

import (
	"cmp"
	"slices"
	"strings"

	"persistor/internal/work"
)

// Drained is an Event Hub and what its workers go by when they drain it.
type Drained struct {
	Hub Hub
	// Checkpoint has no Container where the settings name none.
	Checkpoint Checkpoint
	Folder     string    // first part of every blob's name
	Start      work.From // of a partition without a checkpoint
}

// ReadDrained reads a worker's settings as far as they say what is to be stored of an Event Hub, and how far it is,
// for a program that compares that with what is there. The error is an [*Error].
func ReadDrained(lookup Lookup) (Drained, error) {
	var d Drained
	var storage Storage
	var pull Pull
	service := EventHub
	r := reader{lookup: lookup, service: &service}
	r.read(d.Hub.settings())
	r.read(storageConnectionSettings(&storage.Connection))
	for _, each := range slices.Concat(d.Checkpoint.settings(), storage.settings(), pull.settings()) {
		if each.required = false; !strings.HasPrefix(each.name, "EVENT_HUB_") || each.name == "EVENT_HUB_START" || strings.HasPrefix(each.name, "EVENT_HUB_CHECKPOINT_") {
			r.read([]setting{each})
		}
	}
	r.checkHub(&d.Hub)
	if d.Checkpoint.Container != "" {
		if d.Checkpoint.Connection.IsZero() {
			r.checkStorage(&storage.Connection)
		}
		r.checkCheckpoint(&d.Checkpoint, storage.Connection)
	}
	d.Folder, d.Start = cmp.Or(storage.Folder, d.Hub.Name), pull.Start
	if err := r.err(); err != nil {
		return Drained{}, err
	}
	return d, nil
}

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
