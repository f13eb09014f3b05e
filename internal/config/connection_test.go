package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	hubNS   = hubSetting + suffixNamespace
	busNS   = busSetting + suffixNamespace
	blobURI = storageSetting + suffixBlobService
)

func TestHubConnections(t *testing.T) {
	const sas = "SharedAccessSignature=SharedAccessSignature sr=x&sig=y&se=1&skn=z"
	for _, test := range []struct {
		name    string
		changes []string
		want    Hub
	}{
		{"odd case and blanks", []string{hubSetting, " endpoint=sb://h/ ; sharedaccesskeyname=n;SHAREDACCESSKEY=k==; "},
			Hub{Connection: Connection{ConnectionString: "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=k=="}, Name: "telemetry"}},
		{"SAS", []string{hubSetting, "Endpoint=sb://h/;" + sas},
			Hub{Connection: Connection{ConnectionString: "Endpoint=sb://h/;" + sas}, Name: "telemetry"}},
		{"entity path alone", []string{hubSetting, hubString + ";EntityPath=other", "EVENT_HUB_NAME", ""},
			Hub{Connection: Connection{ConnectionString: Secret(hubString)}, Name: "other"}},
		{"entity path that agrees", []string{hubSetting, hubString + ";EntityPath=Telemetry"},
			Hub{Connection: Connection{ConnectionString: Secret(hubString)}, Name: "telemetry"}},
		{"emulator", []string{hubSetting, "Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true"},
			Hub{Connection: Connection{ConnectionString: "Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true"}, Name: "telemetry"}},
		{"identity", []string{hubSetting, "", hubNS, "ns.servicebus.windows.net"},
			Hub{Connection: Connection{FullyQualifiedNamespace: "ns.servicebus.windows.net"}, Name: "telemetry"}},
		{"managed identity", []string{hubSetting, "", hubNS, "ns.servicebus.windows.net", hubSetting + suffixCredential, "managedIdentity", hubSetting + suffixClientID, "11-22"},
			Hub{Connection: Connection{FullyQualifiedNamespace: "ns.servicebus.windows.net", Credential: "managedidentity", ClientID: "11-22"}, Name: "telemetry"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.want.ConsumerGroup = "$Default"
			if diff := cmp.Diff(test.want, readWorker(t, test.changes...).Hub); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStorageConnections(t *testing.T) {
	for _, test := range []struct {
		name    string
		changes []string
		want    Connection
	}{
		{"Azurite", []string{storageSetting, "UseDevelopmentStorage=true;"}, Connection{ConnectionString: "UseDevelopmentStorage=true;"}},
		{"directory", []string{storageSetting, "file:///tmp/some dir"}, Connection{ConnectionString: "file:///tmp/some dir"}},
		{"odd case", []string{storageSetting, "accountname=a;accountkey=aGk="}, Connection{ConnectionString: "AccountName=a;AccountKey=aGk="}},
		{"endpoint with SAS", []string{storageSetting, "BlobEndpoint=https://a.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=2"},
			Connection{ConnectionString: "SharedAccessSignature=sv=1&sig=2;BlobEndpoint=https://a.blob.core.windows.net/"}},
		{"blob service", []string{storageSetting, "", blobURI, "https://a.blob.core.windows.net"}, Connection{BlobServiceURI: "https://a.blob.core.windows.net"}},
		{"service", []string{storageSetting, "", storageSetting + suffixService, "https://a.blob.core.windows.net/"}, Connection{BlobServiceURI: "https://a.blob.core.windows.net/"}},
		{"account", []string{storageSetting, "", storageSetting + suffixAccount, "abc"}, Connection{BlobServiceURI: "https://abc.blob.core.windows.net"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := readWorker(t, test.changes...)
			if diff := cmp.Diff(test.want, w.Storage.Connection); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.want, w.Checkpoint.Connection); diff != "" {
				t.Errorf("checkpoints don't follow: %s", diff)
			}
			if diff := cmp.Diff(test.want, readInvoker(t, test.changes...).Checkpoint.Connection); diff != "" {
				t.Errorf("the invoker's checkpoints don't follow: %s", diff)
			}
		})
	}
}

func TestCheckpointsElsewhere(t *testing.T) {
	const elsewhere = "file:///checkpoints"
	w := readWorker(t, checkpointSetting, elsewhere)
	if w.Checkpoint.Connection.Location() != elsewhere || w.Storage.Connection.Location() != storeString {
		t.Error("checkpoints and blobs are not apart")
	}
	// The invoker stores no blobs, so it needs no other connection then.
	i := readInvoker(t, checkpointSetting, elsewhere, storageSetting, "")
	if i.Checkpoint.Connection.Location() != elsewhere {
		t.Error("the invoker's checkpoints are not where they were set to be")
	}
}

// Every problem names the setting to change, and says the words.
func TestConnectionProblems(t *testing.T) {
	const endpoint, name, key = "Endpoint=sb://h/;", "SharedAccessKeyName=n;", "SharedAccessKey=k;"
	for _, test := range []struct {
		changes       []string
		setting, want string
	}{
		{[]string{hubSetting, "nonsense"}, hubSetting, "no equals sign in part 1"},
		{[]string{hubSetting, endpoint + name + key + "x"}, hubSetting, "no equals sign in part 4"},
		{[]string{hubSetting, ";;"}, hubSetting, "is empty"},
		{[]string{hubSetting, name + key}, hubSetting, "has no Endpoint"},
		{[]string{hubSetting, "Endpoint=https://h/;" + name + key}, hubSetting, "sb://HOST/"},
		{[]string{hubSetting, "Endpoint=sb:///;" + name + key}, hubSetting, "sb://HOST/"},
		{[]string{hubSetting, endpoint + key}, hubSetting, "has no SharedAccessKeyName"},
		{[]string{hubSetting, endpoint + name}, hubSetting, "neither a SharedAccessKey nor a SharedAccessSignature"},
		{[]string{hubSetting, endpoint + name + "SharedAccessKey=;"}, hubSetting, "neither a SharedAccessKey nor"},
		{[]string{hubSetting, endpoint + endpoint + name + key}, hubSetting, "has Endpoint twice"},
		{[]string{hubSetting, endpoint + "SharedAccessSignature=sr=x"}, hubSetting, "does not begin with"},
		{[]string{hubSetting, endpoint + name + key + "SharedAccessSignature=SharedAccessSignature sr=x"}, hubSetting, "both a SharedAccessKey and"},
		{[]string{hubSetting, endpoint + name + key + "EntityPath=/x"}, hubSetting, "EntityPath that is no hub's name"},
		{[]string{hubSetting, endpoint + name + key + "UseDevelopmentEmulator=maybe"}, hubSetting, "neither true nor false"},
		{[]string{hubSetting, storeString}, hubSetting, "of a storage account, not of Event Hubs"},
		{[]string{hubSetting, hubString + ";EntityPath=other"}, hubNameSetting, "differs from the EntityPath"},
		{[]string{hubNameSetting, ""}, hubNameSetting, "has no EntityPath"},
		{[]string{hubNS, "ns.servicebus.windows.net"}, hubSetting, "not both"},
		{[]string{hubSetting, "", hubSetting + suffixCredential, managedIdentity}, hubNS, "not set, though"},
		{[]string{hubSetting, "", hubSetting + suffixClientID, "x"}, hubNS, "not set, though"},
		{[]string{hubSetting, "", hubNS, "ns", hubSetting + suffixClientID, "x"}, hubSetting + suffixCredential, "expected managedidentity"},
		{[]string{hubSetting, "", hubNS, "ns", hubSetting + suffixCredential, "password"}, hubSetting + suffixCredential, "expected managedidentity"},
		{[]string{hubSetting, "", hubNS, "sb://ns.servicebus.windows.net/"}, hubNS, "a host name alone"},
		{[]string{hubSetting, ""}, hubSetting, "not set: expected"},

		{[]string{storageSetting, "nonsense"}, storageSetting, "no equals sign"},
		{[]string{storageSetting, "AccountName=a"}, storageSetting, "neither an AccountKey nor a SharedAccessSignature"},
		{[]string{storageSetting, "AccountKey=aGk="}, storageSetting, "neither an AccountName nor a BlobEndpoint"},
		{[]string{storageSetting, "BlobEndpoint=https://h/;AccountKey=aGk="}, storageSetting, "AccountKey without an AccountName"},
		{[]string{storageSetting, "AccountName=a;AccountKey=aGk"}, storageSetting, "not base64"},
		{[]string{storageSetting, "AccountName=a;AccountKey=aGk=;DefaultEndpointsProtocol=ftp"}, storageSetting, "neither https nor http"},
		{[]string{storageSetting, "BlobEndpoint=h;SharedAccessSignature=x"}, storageSetting, "https://HOST/"},
		{[]string{storageSetting, hubString}, storageSetting, "of Event Hubs or Service Bus, not of a storage account"},
		{[]string{storageSetting, "file://host/dir"}, storageSetting, "file:///ABSOLUTE/DIRECTORY"},
		{[]string{storageSetting, "file:dir"}, storageSetting, "file:///ABSOLUTE/DIRECTORY"},
		{[]string{storageSetting, "", blobURI, "http://a.blob.core.windows.net"}, blobURI, "an https URI"},
		{[]string{storageSetting, "", blobURI, "https://a.blob.core.windows.net?sig=1"}, blobURI, "without a query"},
		{[]string{storageSetting, "", storageSetting + suffixAccount, "A_B"}, storageSetting + suffixAccount, "an account's name"},
		{[]string{storageSetting, "", blobURI, "https://h", storageSetting + suffixAccount, "abc"}, storageSetting + suffixAccount, "keep one of them"},
		{[]string{blobURI, "https://h"}, storageSetting, "not both"},
		{[]string{storageSetting, "", storageSetting + suffixCredential, managedIdentity}, blobURI, "not set, though"},
		{[]string{storageSetting, ""}, storageSetting, "not set: expected"},
		{[]string{checkpointSetting, "AccountName=a"}, checkpointSetting, "neither an AccountKey"},
	} {
		found := problems(t, environment(test.changes...))
		if len(found) != 1 || !strings.Contains(found[test.setting], test.want) {
			t.Errorf("%q: problems %v, want one of %s with %q", test.changes, found, test.setting, test.want)
		}
	}
}

func TestTokenCredential(t *testing.T) {
	for _, c := range []Connection{
		{FullyQualifiedNamespace: "h", Credential: managedIdentity},
		{FullyQualifiedNamespace: "h", Credential: managedIdentity, ClientID: "id"},
		{BlobServiceURI: "https://h"},
	} {
		credential, err := c.TokenCredential()
		if err != nil || credential == nil {
			t.Errorf("%+v: %v, %v", c, credential, err)
		}
	}
	if credential, err := (Connection{ConnectionString: Secret(hubString)}).TokenCredential(); credential != nil || err != nil {
		t.Errorf("with a connection string: %v, %v", credential, err)
	}
}
