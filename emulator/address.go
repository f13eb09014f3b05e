package emulator

import (
	"strings"

	"persistor/emulator/internal/wire"
)

const (
	cbsNode        = "$cbs"
	managementNode = "$management"
)

// An entity is what the namespace holds under a name without slashes, other than a queue or topic.
type entity interface {
	// node returns the node at a path below the entity's name, empty for the entity itself. Whether there is one shows
	// when a link is attached.
	node(path string) node
}

// resolve finds the node that a link's address names:
//
//	$cbs
//	$management and <hub>/$management
//	<hub>/... , which goes to the hub
//	those of a queue or topic, see [queueNode]
//
// Clients write addresses with and without a slash in front, or with amqps://host in front of that, and in any case.
func (c *connection) resolve(l *link) (node, *wire.Error) {
	path := entityPath(l.address)
	ofQueue, management := strings.CutSuffix(strings.ToLower(path), "/"+managementNode)
	if q := c.e.queues[ofQueue]; q != nil {
		return &queueNode{q, management}, nil
	}
	name, rest, _ := strings.Cut(path, "/")
	name = strings.ToLower(name)
	of := c.e.entities[name]
	switch {
	case name == cbsNode && rest == "":
		return &rpcNode{name: cbsNode, most: maxRequest, serve: c.putToken}, nil
	case name == managementNode && rest == "":
		// What is asked for is checked with each request.
		return &rpcNode{name: managementNode, most: maxRequest, serve: c.manage}, nil
	case of != nil && strings.EqualFold(rest, managementNode):
		return &rpcNode{name: managementNode, most: maxRequest, serve: c.manage}, nil
	case of != nil:
		return of.node(rest), nil
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
