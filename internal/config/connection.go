package config

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Connection is how to reach a namespace of Event Hubs or Service Bus, or a storage account, in one of two
// forms: a connection string, or the identity that the program runs under. It follows the convention of Azure
// Functions: the setting NAME holds a connection string, the settings NAME__... an identity's parts.
type Connection struct {
	// ConnectionString is "" in the identity form. One of a namespace never has an EntityPath: the name
	// goes to [Hub] or [Queue]. One of storage may also be "file:///absolute/directory", for a local
	// store, or "UseDevelopmentStorage=true".
	ConnectionString Secret
	// FullyQualifiedNamespace is the host name of a namespace.
	FullyQualifiedNamespace string
	// BlobServiceURI is the URI of a storage account's blob service.
	BlobServiceURI string
	// Credential is "managedidentity", or "" for the default chain of credentials.
	Credential string
	// ClientID names a user-assigned managed identity; "" is the system-assigned one.
	ClientID string
}

// IsZero reports whether no setting of the connection was given.
func (c Connection) IsZero() bool { return c == Connection{} }

// Location is where containers are, for a storage connection: the connection string or the service URI.
// It may hold a key.
func (c Connection) Location() string {
	if c.ConnectionString != "" {
		return c.ConnectionString.Reveal()
	}
	return c.BlobServiceURI
}

// Namespace is the host name of a namespace, in either form, in lower case; of an emulator it may have a
// port.
func (c Connection) Namespace() string {
	parts, _ := splitConnectionString(c.ConnectionString.Reveal(), namespaceKeys)
	host := c.FullyQualifiedNamespace
	if endpoint, err := url.Parse(parts["Endpoint"]); host == "" && err == nil {
		host = endpoint.Host
	}
	return strings.ToLower(host)
}

// The suffixes of Azure Functions' identity-based connections.
const (
	suffixNamespace   = "__fullyQualifiedNamespace"
	suffixBlobService = "__blobServiceUri"
	suffixService     = "__serviceUri"
	suffixAccount     = "__accountName"
	suffixCredential  = "__credential"
	suffixClientID    = "__clientId"
)

const managedIdentity = "managedidentity"

func identitySettings(c *Connection, name, of string) []setting {
	return []setting{
		{name: name + suffixCredential, value: choice(&c.Credential, []string{managedIdentity}, managedIdentity), meaning: "How the identity proves itself to " + of + ".", otherwise: "the default chain of Azure credentials"},
		{name: name + suffixClientID, value: text(&c.ClientID, "a client id"), meaning: "The user-assigned managed identity to use; goes with `__credential`.", otherwise: "the system-assigned identity"},
	}
}

// namespace is what tells the two services' namespaces apart.
type namespace struct {
	service  string // as it is called
	article  string // with an article before it
	entity   string // what may be drained of it, as a noun in the genitive
	isEntity func(name string) bool
}

var (
	eventHubs  = namespace{"Event Hubs", "an Event Hubs", "hub's", hubName.MatchString}
	serviceBus = namespace{"Service Bus", "a Service Bus", "queue's or topic's", isEntityName}
)

// settings are the group that reaches a namespace.
func (n namespace) settings(c *Connection, name string) []setting {
	return append([]setting{
		{name: name, value: text(&c.ConnectionString, "a connection string"), secret: true, meaning: "Connection string of the " + n.service + " namespace, or one of an entity in it.", otherwise: "required, unless the identity form is used"},
		{name: name + suffixNamespace, value: text(&c.FullyQualifiedNamespace, "a host name"), meaning: "Instead of a connection string: the namespace's host name, such as `my-namespace.servicebus.windows.net`, reached with an identity."},
	}, identitySettings(c, name, n.service)...)
}

// storageConnection is the group of settings that reach a storage account.
func storageConnection(c *Connection, name, meaning, otherwise string) []setting {
	uri := text(&c.BlobServiceURI, "a URI")
	return append([]setting{
		{name: name, value: text(&c.ConnectionString, "a connection string"), secret: true, meaning: meaning, otherwise: otherwise},
		{name: name + suffixBlobService, alias: name + suffixService, value: uri, meaning: "Instead of a connection string: the URI of the account's blob service, such as `https://myaccount.blob.core.windows.net`, reached with an identity."},
		{name: name + suffixAccount, value: value{"an account's name: 3 to 24 lower-case letters and digits", func(text string) error {
			if !accountName.MatchString(text) {
				return errMismatch
			}
			if c.BlobServiceURI != "" {
				return fmt.Errorf("set together with %s: keep one of them", name+suffixBlobService)
			}
			c.BlobServiceURI = "https://" + text + ".blob.core.windows.net"
			return nil
		}}, meaning: "The same by the account's name alone, in the public cloud."},
	}, identitySettings(c, name, "storage")...)
}

var accountName = regexp.MustCompile(`^[a-z0-9]{3,24}$`)

// checkForm reports both forms at once, or half of one. Address is the identity form's address, suffix
// the setting that gives it.
func (c Connection) checkForm(r *reader, name, address, suffix string) {
	identity := address != "" || c.Credential != "" || c.ClientID != ""
	switch {
	case c.ConnectionString != "" && identity:
		r.problem(name, "set together with settings %s__...: keep the connection string or the identity form, not both", name)
	case identity && address == "":
		r.problem(name+suffix, "not set, though %s is: the identity form needs both", name+c.halfForm())
	case c.ClientID != "" && c.Credential == "":
		r.problem(name+suffixCredential, "not set, though %s is: expected %s", name+suffixClientID, managedIdentity)
	}
}

// halfForm is the suffix of a setting that makes no sense without an address.
func (c Connection) halfForm() string {
	if c.Credential != "" {
		return suffixCredential
	}
	return suffixClientID
}

// checkNamespace checks a connection to a namespace that was given, and returns the EntityPath in it.
func (c *Connection) checkNamespace(r *reader, n namespace, name string) (entityPath string) {
	c.checkForm(r, name, c.FullyQualifiedNamespace, suffixNamespace)
	if c.FullyQualifiedNamespace != "" && !hostName.MatchString(c.FullyQualifiedNamespace) {
		r.problem(name+suffixNamespace, "expected a host name alone, such as my-namespace.servicebus.windows.net")
	}
	if c.ConnectionString == "" {
		return ""
	}
	parts, problem := splitConnectionString(c.ConnectionString.Reveal(), namespaceKeys)
	if problem == "" {
		problem = n.problem(parts)
	}
	if problem != "" {
		r.problem(name, "%s: expected Endpoint=sb://NAMESPACE.servicebus.windows.net/;SharedAccessKeyName=NAME;SharedAccessKey=KEY", problem)
		return ""
	}
	entityPath = parts["EntityPath"]
	delete(parts, "EntityPath")
	c.ConnectionString = joinConnectionString(parts, namespaceKeys)
	return entityPath
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,62}\.)*[A-Za-z0-9-]{1,63}$`)

// namespaceKeys are the keys of a namespace's connection string that mean something, as the SDKs spell
// them.
var namespaceKeys = []string{"Endpoint", "SharedAccessKeyName", "SharedAccessKey", "SharedAccessSignature", "EntityPath", "UseDevelopmentEmulator"}

func (n namespace) problem(parts map[string]string) string {
	endpoint, err := url.Parse(parts["Endpoint"])
	switch {
	case parts["Endpoint"] == "" && (parts["AccountName"] != "" || parts["BlobEndpoint"] != ""):
		return "is the connection string of a storage account, not of " + n.service
	case parts["Endpoint"] == "":
		return "has no Endpoint"
	case err != nil || endpoint.Scheme != "sb" || endpoint.Hostname() == "" || endpoint.User != nil:
		return "has an Endpoint that is not of the form sb://HOST/"
	case parts["SharedAccessSignature"] != "":
		if !strings.HasPrefix(parts["SharedAccessSignature"], "SharedAccessSignature ") {
			return `has a SharedAccessSignature that does not begin with "SharedAccessSignature sr="`
		}
		if parts["SharedAccessKey"] != "" {
			return "has both a SharedAccessKey and a SharedAccessSignature"
		}
	case parts["SharedAccessKeyName"] == "":
		return "has no SharedAccessKeyName"
	case parts["SharedAccessKey"] == "":
		return "has neither a SharedAccessKey nor a SharedAccessSignature"
	}
	if e := parts["UseDevelopmentEmulator"]; e != "" && !strings.EqualFold(e, "true") && !strings.EqualFold(e, "false") {
		return "has a UseDevelopmentEmulator that is neither true nor false"
	}
	if e := parts["EntityPath"]; e != "" && !n.isEntity(e) {
		return "has an EntityPath that is no " + n.entity + " name"
	}
	return ""
}

// checkStorage checks a connection to a storage account that was given.
func (c *Connection) checkStorage(r *reader, name string) {
	c.checkForm(r, name, c.BlobServiceURI, suffixBlobService)
	if c.BlobServiceURI != "" {
		u, err := url.Parse(c.BlobServiceURI)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			r.problem(name+suffixBlobService, "expected an https URI without a query, such as https://myaccount.blob.core.windows.net")
		}
	}
	switch text := c.ConnectionString.Reveal(); {
	case text == "" || strings.EqualFold(strings.TrimRight(text, ";"), developmentStorage):
	case strings.HasPrefix(text, "file:"):
		u, err := url.Parse(text)
		if err != nil || u.Host != "" || !path.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" {
			r.problem(name, "expected file:///ABSOLUTE/DIRECTORY for a local directory")
		}
	default:
		parts, problem := splitConnectionString(text, storageKeys)
		if problem == "" {
			problem = storageProblem(parts)
		}
		if problem != "" {
			r.problem(name, "%s: expected DefaultEndpointsProtocol=https;AccountName=NAME;AccountKey=KEY;EndpointSuffix=core.windows.net, or a SharedAccessSignature in place of the key, or UseDevelopmentStorage=true, or file:///ABSOLUTE/DIRECTORY", problem)
			return
		}
		c.ConnectionString = joinConnectionString(parts, storageKeys)
	}
}

const developmentStorage = "UseDevelopmentStorage=true"

// storageKeys are the keys of a storage connection string that the blob and queue clients read. They know them in
// this spelling alone.
var storageKeys = []string{"DefaultEndpointsProtocol", "AccountName", "AccountKey", "SharedAccessSignature", "BlobEndpoint", "QueueEndpoint", "EndpointSuffix"}

func storageProblem(parts map[string]string) string {
	if parts["Endpoint"] != "" && parts["AccountName"] == "" {
		return "is the connection string of Event Hubs or Service Bus, not of a storage account"
	}
	if p := parts["DefaultEndpointsProtocol"]; p != "" && p != "https" && p != "http" {
		return "has a DefaultEndpointsProtocol that is neither https nor http"
	}
	for _, name := range []string{"BlobEndpoint", "QueueEndpoint"} {
		e := parts[name]
		u, err := url.Parse(e)
		if e != "" && (err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" || u.User != nil || u.RawQuery != "") {
			return "has a " + name + " that is not of the form https://HOST/"
		}
	}
	switch {
	case parts["AccountName"] == "" && parts["BlobEndpoint"] == "":
		return "has neither an AccountName nor a BlobEndpoint"
	case parts["AccountKey"] == "" && parts["SharedAccessSignature"] == "":
		return "has neither an AccountKey nor a SharedAccessSignature"
	case parts["AccountKey"] != "" && parts["AccountName"] == "":
		return "has an AccountKey without an AccountName"
	}
	if _, err := base64.StdEncoding.DecodeString(parts["AccountKey"]); err != nil {
		return "has an AccountKey that is not base64, perhaps cut off"
	}
	return ""
}

// splitConnectionString parses Key=Value;Key=Value. Keys that are known come back in their known
// spelling, whatever their case. The problem names known keys alone: anything else may be a piece of a
// secret.
func splitConnectionString(text string, known []string) (parts map[string]string, problem string) {
	parts = make(map[string]string)
	n := 0
	for part := range strings.SplitSeq(text, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		n++
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Sprintf("has no equals sign in part %d", n)
		}
		if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, key) }); i >= 0 {
			key = known[i]
			if parts[key] != "" {
				return nil, fmt.Sprintf("has %s twice", key)
			}
		}
		parts[key] = value
	}
	if n == 0 {
		return nil, "is empty"
	}
	return parts, ""
}

// joinConnectionString writes the known parts in their order.
func joinConnectionString(parts map[string]string, known []string) Secret {
	var all []string
	for _, key := range known {
		if value := parts[key]; value != "" {
			all = append(all, key+"="+value)
		}
	}
	return Secret(strings.Join(all, ";"))
}
