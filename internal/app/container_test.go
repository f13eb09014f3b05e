package app

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"persistor/internal/azurite/azuritetest"
	"persistor/internal/config"
	"persistor/internal/store"
)

// Every way to name a container leads to the same blob.
func TestOpenContainer(t *testing.T) {
	connection := azuritetest.Run(t) // before the working directory changes, from which it is found
	root := t.TempDir()
	dir := filepath.Join(root, "blobs")
	written, err := store.OpenDir(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer written.Close()
	t.Chdir(root)
	file := "file://" + filepath.ToSlash(dir)
	settings := map[string]string{"PERSISTOR_STORAGE_CONNECTION_STRING": "file://" + filepath.ToSlash(root), "PERSISTOR_CONTAINER_NAME": "blobs"}
	containsBlob(t, written, map[string]map[string]string{"": settings, "blobs": nil, dir: nil, file: nil})

	azure, err := store.OpenAzure(t.Context(), store.Options{Location: connection, Container: "opened", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	client, err := container.NewClientFromConnectionString(connection, "opened", nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := client.GetSASURL(sas.ContainerPermissions{Read: true, List: true}, time.Now().Add(time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	containsBlob(t, azure, map[string]map[string]string{
		signed: nil, "": {"PERSISTOR_STORAGE_CONNECTION_STRING": connection, "PERSISTOR_CONTAINER_NAME": "opened"},
	})
}

func containsBlob(t *testing.T, written store.Store, locations map[string]map[string]string) {
	t.Helper()
	if _, err := written.Create(t.Context(), "a/b.txt", []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	for location, settings := range locations {
		opened, err := OpenContainer(t.Context(), location, lookupIn(settings))
		if err != nil {
			t.Errorf("%s: %v", location, err)
			continue
		}
		if _, err := opened.Metadata(t.Context(), "a/b.txt"); err != nil {
			t.Errorf("%s: %v", location, err)
		}
	}
}

func lookupIn(settings map[string]string) config.Lookup {
	return func(name string) (string, bool) {
		value, ok := settings[name]
		return value, ok
	}
}

// What can't be opened is told, without the secret in it, and nothing is made of it.
func TestOpenContainerFails(t *testing.T) {
	root := t.TempDir()
	t.Chdir(root)
	if err := os.MkdirAll("plain/within", 0o777); err != nil {
		t.Fatal(err)
	}
	if d, err := store.OpenDir("outer/inner", true); err != nil {
		t.Fatal(err)
	} else {
		d.Close()
	}
	for location, want := range map[string]string{
		"nowhere":                            "there is no directory nowhere; name one that Persistor stores in",
		"plain":                              "plain is none: Persistor has stored nothing in it",
		"outer":                              "outer holds containers, and is none; name one of them, such as outer/inner",
		"s3://bucket":                        "s3:// is no way to reach one",
		"https://acct.blob.core.windows.net": "names no container",
		"https://a.exa mple/c?sig=s3c":       "no URL of a container",
		"https://a.example/c/folder?sig=s3c": "a folder in it is for --folder",
		"http://127.0.0.1:1/account?sig=s3c": "names no container",
		"https://user:s3c@a.example/c":       "no URL of a container",
		"":                                   "PERSISTOR_STORAGE_CONNECTION_STRING: not set",
	} {
		_, err := OpenContainer(t.Context(), location, lookupIn(nil))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3c") {
			t.Errorf("%s: %v", location, err)
		}
		if wrong := (*config.Error)(nil); location == "" && !errors.As(err, &wrong) {
			t.Errorf("%T", err)
		}
	}
	if store.IsContainer("plain") {
		t.Error("a directory that was only looked at is a container now")
	}
}

// Without a SAS the identity is what the settings say of it.
func TestOpenContainerByIdentity(t *testing.T) {
	location := (&url.URL{Scheme: "https", Host: "myaccount.blob.core.windows.net", Path: "/blobs"}).String()
	_, err := OpenContainer(t.Context(), location, lookupIn(map[string]string{"PERSISTOR_STORAGE_CONNECTION_STRING__clientId": "7e1c2e0e-4f3b-4d59-9d63-0d4a3f6f0a11"}))
	if wrong := (*config.Error)(nil); !errors.As(err, &wrong) || !strings.Contains(err.Error(), "PERSISTOR_STORAGE_CONNECTION_STRING__credential") {
		t.Error(err)
	}
}
