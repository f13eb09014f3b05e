package emulator

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"persistor/emulator/internal/wire"
)

// Hub is an Event Hub.
type Hub struct {
	Name       string
	Partitions int // 1 to 1,024; 1 by default. They are called 0, 1 and so on
	// ConsumerGroups that there are beside $Default.
	ConsumerGroups []string
	// RetentionCount is how many events a partition keeps, RetentionAge for how long; 0 is without an end. The oldest
	// go when new ones come, when a client or a test looks, and with [Emulator.Trim].
	RetentionCount int
	RetentionAge   time.Duration
	// MaxMessageSize is how many bytes a message or a batch may have, 1 MiB by default.
	MaxMessageSize int
	// Synthetic has the hub make its events up.
	Synthetic *Synthetic
}

const (
	maxPartitions = 1024
	defaultGroup  = "$Default"
)

// hub is a hub with its events.
type hub struct {
	Hub
	e          *Emulator
	partitions []*partition
	turn       atomic.Uint64 // of the partitions, for events without a key
}

func newHub(e *Emulator, h Hub) (*hub, error) {
	setDefault(&h.Partitions, 1)
	setDefault(&h.MaxMessageSize, defaultMessage)
	switch {
	case h.Name == "" || strings.ContainsAny(h.Name, "/ ") || strings.HasPrefix(h.Name, "$"):
		return nil, errors.New("the name must not be empty, begin with $, or have a slash or a space in it")
	case h.Partitions < 1 || h.Partitions > maxPartitions:
		return nil, fmt.Errorf("%d partitions are not between 1 and %d", h.Partitions, maxPartitions)
	case h.MaxMessageSize < 1024 || h.MaxMessageSize > 100<<20:
		return nil, fmt.Errorf("a largest message of %d bytes is not between 1 KiB and 100 MiB", h.MaxMessageSize)
	case h.RetentionCount < 0 || h.RetentionAge < 0:
		return nil, errors.New("the retention is negative")
	case h.Synthetic != nil && (h.RetentionCount > 0 || h.RetentionAge > 0):
		return nil, errors.New("a synthetic hub has no retention")
	}
	made := &hub{Hub: h, e: e}
	for i := range h.Partitions {
		p := &partition{hub: made, id: strconv.Itoa(i)}
		if h.Synthetic != nil {
			events, err := newSyntheticLog(*h.Synthetic, p.id)
			if err != nil {
				return nil, err
			}
			p.log = events
		} else {
			p.stored = &storedLog{count: h.RetentionCount, age: h.RetentionAge, now: e.now}
			p.log = p.stored
		}
		made.partitions = append(made.partitions, p)
	}
	return made, nil
}

// partition finds a partition. The error's condition tells a number that is too large from a name that is none.
func (h *hub) partition(id string) (*partition, *wire.Error) {
	n, err := strconv.Atoi(id)
	switch {
	case err != nil || strconv.Itoa(n) != id:
		return nil, h.e.notFound(h.Name + "/Partitions/" + id)
	case n < 0 || n >= len(h.partitions):
		return nil, &wire.Error{Condition: "com.microsoft:argument-out-of-range", Description: h.e.describe(h.Name,
			"The specified partition is invalid for an EventHub partition sender or receiver. It should be between 0 and %d. (Parameter 'PartitionId')", len(h.partitions)-1)}
	}
	return h.partitions[n], nil
}

// group returns a consumer group's name as it was made. It is false if there is none.
func (h *hub) group(name string) (string, bool) {
	if strings.EqualFold(name, defaultGroup) {
		return defaultGroup, true
	}
	i := slices.IndexFunc(h.ConsumerGroups, func(g string) bool { return strings.EqualFold(g, name) })
	if i < 0 {
		return "", false
	}
	return h.ConsumerGroups[i], true
}

func (h *hub) node(path string) node { return &hubNode{hub: h, path: path} }

// hubNode is a hub as the address of a link names it, or a part of it:
//
//	<hub>                                         to send to the partition of a key, or to each in turn
//	<hub>/Partitions/<id>                         to send to one
//	<hub>/ConsumerGroups/<group>/Partitions/<id>  to receive
type hubNode struct {
	hub  *hub
	path string // below the hub
}

func (n *hubNode) attach(l *link, a *wire.Attach) (granted, *wire.Error) {
	h := n.hub
	need := claimNeed{path: strings.ToLower(entityPath(l.address)), right: rightSend}
	if a.Role == wire.RoleReceiver {
		need.right = rightListen
	}
	if refusal := l.s.c.authorize(need); refusal != nil {
		return granted{}, refusal
	}
	if busy := h.e.throttled(&h.e.faults.attaches, h.Name); busy != nil {
		return granted{}, busy
	}
	l.claims = append(l.claims, need)
	parts := strings.Split(n.path, "/")
	is := func(i int, name string) bool { return strings.EqualFold(parts[i], name) }
	switch {
	case a.Role == wire.RoleReceiver && len(parts) == 4 && is(0, "ConsumerGroups") && is(2, "Partitions"):
		return h.attachReader(l, a, parts[1], parts[3])
	case a.Role == wire.RoleSender && n.path == "":
		return h.attachSender(l, nil)
	case a.Role == wire.RoleSender && len(parts) == 2 && is(0, "Partitions"):
		p, refusal := h.partition(parts[1])
		if refusal != nil {
			return granted{}, refusal
		}
		return h.attachSender(l, p)
	case a.Role == wire.RoleSender && len(parts) == 2 && is(0, "Publishers"):
		return granted{}, &wire.Error{Condition: wire.ConditionNotImplemented, Description: "publishers are not supported; send to the hub"}
	}
	return granted{}, h.e.notFound(entityPath(l.address))
}
