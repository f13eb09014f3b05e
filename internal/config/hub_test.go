package config

import (
	"strings"
	"testing"
)

func TestReadDrained(t *testing.T) {
	d, err := ReadDrained(lookupIn(environment("EVENT_HUB_START", "latest", "PERSISTOR_CONTAINER_NAME", "", "FUNC_TO_INVOKE", "", "EVENT_HUB_PREFETCH", "none of its business")))
	if err != nil || d.Hub.Name != "telemetry" || d.Folder != "telemetry" || d.Start.Position != "latest" || d.Checkpoint.Container != "checkpoints" || d.Checkpoint.Connection.ConnectionString.Reveal() != storeString {
		t.Errorf("%v, %+v", err, d)
	}
	// Who keeps no checkpoints needs no storage account for them.
	d, err = ReadDrained(lookupIn(environment("EVENT_HUB_CHECKPOINT_CONTAINER", "", "PERSISTOR_STORAGE_CONNECTION_STRING", "", "STORE_PARAM", "a/b")))
	if err != nil || d.Folder != "a/b" || d.Checkpoint.Container != "" {
		t.Errorf("%v, %+v", err, d)
	}
	// All that is wrong is told at once.
	_, err = ReadDrained(lookupIn(environment("EVENT_HUB_CONN_STRING", "", "EVENT_HUB_START", "soon", "PERSISTOR_STORAGE_CONNECTION_STRING", "", "EVENT_HUB_CHECKPOINT_CONTAINER", "X")))
	for _, name := range []string{"EVENT_HUB_CONN_STRING", "EVENT_HUB_START", "EVENT_HUB_CHECKPOINT_CONTAINER"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
	if _, err = ReadDrained(lookupIn(environment("PERSISTOR_STORAGE_CONNECTION_STRING", ""))); err == nil || !strings.Contains(err.Error(), "PERSISTOR_STORAGE_CONNECTION_STRING") {
		t.Errorf("checkpoints of no account: %v", err)
	}
}
