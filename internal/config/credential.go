package config

import (
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// TokenCredential returns what proves the program's identity to Azure: the managed identity that the
// settings name, or else the default chain (environment, workload identity, managed identity, then the
// developer's own tools). It asks nobody yet; the client that uses it does. It returns nil, nil for a
// connection in the form of a connection string.
func (c Connection) TokenCredential() (azcore.TokenCredential, error) {
	if c.ConnectionString != "" {
		return nil, nil
	}
	if c.Credential != managedIdentity {
		credential, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return nil, fmt.Errorf("set up the default Azure credentials: %s", firstLine(err))
		}
		return credential, nil
	}
	var options azidentity.ManagedIdentityCredentialOptions
	if c.ClientID != "" {
		options.ID = azidentity.ClientID(c.ClientID)
	}
	credential, err := azidentity.NewManagedIdentityCredential(&options)
	if err != nil {
		return nil, fmt.Errorf("set up the managed identity %q: %s", c.ClientID, firstLine(err))
	}
	return credential, nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
