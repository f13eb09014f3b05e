package emulator

import (
	"strings"

	"persistor/emulator/internal/wire"
)

const (
	cbsNode        = "$cbs"
	managementNode = "$management"
)

// resolve finds the node that a link's address names:
//
//	$cbs
//	$management and <hub>/$management
//	<hub>/... , which goes to the hub
//
// Clients write addresses with and without a slash in front, or with amqps://host in front of that, and in any case.
func (c *connection) resolve(l *link) (node, *wire.Error) {
	path := entityPath(l.address)
	switch name, rest, _ := strings.Cut(strings.ToLower(path), "/"); {
	case name == cbsNode && rest == "":
		return &rpcNode{name: cbsNode, serve: c.putToken}, nil
	case name == managementNode && rest == "":
		// What is asked for is checked with each request.
		return &rpcNode{name: managementNode, serve: c.manage}, nil
	case rest == managementNode && c.e.hubs[name] != nil:
		return &rpcNode{name: managementNode, serve: c.manage}, nil
	case c.e.hubs[name] != nil:
		_, rest, _ := strings.Cut(path, "/")
		return &hubNode{hub: c.e.hubs[name], path: rest}, nil
	}
	// A stranger is not told what exists.
	if refusal := c.authorize(claimNeed{path: strings.ToLower(path)}); refusal != nil {
		return nil, refusal
	}
	return nil, c.e.notFound(path)
}

// entityPath strips an address of scheme, host and slashes at either end.
func entityPath(address string) string {
	if _, rest, ok := strings.Cut(address, "://"); ok {
		_, address, _ = strings.Cut(rest, "/")
	}
	return strings.Trim(address, "/")
}

// notFound has the text by which the clients for JavaScript and .NET tell this error.
func (e *Emulator) notFound(path string) *wire.Error {
	return &wire.Error{Condition: wire.ConditionNotFound, Description: e.describe(path, "The messaging entity 'sb://%s/%s' could not be found.", e.Address(), path)}
}
