package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The lease is kept where the workers store, or else where the checkpoints are.
func TestWhereTheLeaseIs(t *testing.T) {
	const elsewhere = "file:///checkpoints"
	blobs, checkpoints := Connection{ConnectionString: Secret(storeString)}, Connection{ConnectionString: elsewhere}
	for _, test := range []struct {
		name     string
		settings map[string]string
		want     Storage
	}{
		{"both", environment(), Storage{Connection: blobs, Container: "messages"}},
		{"create", environment(createSetting, "TRUE"), Storage{Connection: blobs, Container: "messages", CreateContainer: true}},
		{"no container", environment(containerSetting, ""), Storage{Connection: blobs, Container: "checkpoints", CreateContainer: true}},
		{"checkpoints elsewhere", environment(checkpointSetting, elsewhere), Storage{Connection: blobs, Container: "messages"}},
		{"checkpoints alone", environment(checkpointSetting, elsewhere, storageSetting, "", containerSetting, ""), Storage{Connection: checkpoints, Container: "checkpoints", CreateContainer: true}},
		{"no connection", environment(checkpointSetting, elsewhere, storageSetting, ""), Storage{Connection: checkpoints, Container: "checkpoints", CreateContainer: true}},
		{"bus", busEnvironment(), Storage{Connection: blobs, Container: "messages"}},
		{"bus without container", busEnvironment(containerSetting, ""), Storage{}},
		{"bus without connection", busEnvironment(storageSetting, ""), Storage{}},
		{"bus without either", busEnvironment(storageSetting, "", containerSetting, ""), Storage{}},
	} {
		i, err := ReadInvoker(lookupIn(test.settings))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if diff := cmp.Diff(test.want, i.Storage); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
		warned := slices.ContainsFunc(i.Warnings, func(w string) bool {
			return strings.Contains(w, storageSetting) && strings.Contains(w, containerSetting)
		})
		if exclusive := i.Storage != (Storage{}); warned == exclusive {
			t.Errorf("%s: warnings %q", test.name, i.Warnings)
		}
	}
	// What is not needed is not checked.
	for _, settings := range []map[string]string{
		environment(checkpointSetting, elsewhere, storageSetting, "nonsense", containerSetting, ""),
		busEnvironment(storageSetting, "nonsense", containerSetting, ""),
	} {
		if _, err := ReadInvoker(lookupIn(settings)); err != nil {
			t.Error(err)
		}
	}
}

func TestSources(t *testing.T) {
	for want, settings := range map[string]map[string]string{
		"my-namespace.servicebus.windows.net/telemetry/$default":   environment(),
		"ns.servicebus.windows.net/rides/group":                    environment(hubSetting, "", hubSetting+suffixNamespace, "NS.servicebus.windows.net", hubNameSetting, "Rides", "EVENT_HUB_CONSUMER_GROUP", "Group"),
		"127.0.0.1:5672/telemetry/$default":                        environment(hubSetting, "Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true"),
		"my-bus.servicebus.windows.net/orders":                     busEnvironment(),
		"my-bus.servicebus.windows.net/events/subscriptions/audit": topicEnvironment(),
		"my-bus.servicebus.windows.net/orders/$deadletterqueue":    busEnvironment(subqueueSetting, "deadletter"),
	} {
		i, err := ReadInvoker(lookupIn(settings))
		if err != nil || i.Source() != want {
			t.Errorf("source %q, %v; want %q", i.Source(), err, want)
		}
	}
}

// badSchedules are none to the host, or are other ones than their writer thinks.
var badSchedules = []string{
	"hourly", "@hourly", "* * *", "* * * * * * *", "60 * * * * *", "0 60 * * * *", "0 0 24 * * *", "0 0 0 0 * *", "0 0 0 32 * *",
	"0 0 0 * 13 *", "0 0 0 * * 7", "0 0 0 * * ?", "0 */0 * * * *", "0 */x * * * *", "0 5-1 * * * *", "0 1,,2 * * * *", "0 0 0 * * tu",
	"0 0 0 mon * *", "- * * * * *", "24:00:00", "100:00:00", "00:60:00", "00:00:00", "15", "00:15:00 * * * * *",
}

func TestSchedules(t *testing.T) {
	for _, good := range []string{
		"0 */15 * * * *", "0 */5 * * * *", "*/30 * * * * *", "0  0   9-17 * *  Mon-Fri", "0 0 0 1 january,JUL *", "0 5/10,7,20-30/2 * * * 0-6",
		"*/5 * * * *", "59 59 23 31 12 6", "0 0 0 * * sunday", "00:15:00", "1.00:00:00", "23:59", "0:0:30",
	} {
		if _, err := ReadInvoker(lookupIn(environment("PERSISTOR_SCHEDULE", good))); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range badSchedules {
		_, err := ReadInvoker(lookupIn(environment("PERSISTOR_SCHEDULE", bad)))
		if err == nil || !strings.Contains(err.Error(), "0 */15 * * * *") && !strings.Contains(err.Error(), "1.00:00:00") {
			t.Errorf("%s: an example is missing: %v", bad, err)
		}
	}
}
