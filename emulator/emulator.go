// Package emulator is Azure Event Hubs and Service Bus in a process: it speaks AMQP 1.0 over plain TCP on loopback to the
// real clients, which connect with UseDevelopmentEmulator=true in their connection string. It exists for tests and
// demonstrations, so time can be set and faults are part of its interface.
//
//	e, err := emulator.Start(emulator.Options{
//		Hubs:   []emulator.Hub{{Name: "orders", Partitions: 8}},
//		Queues: []emulator.Queue{{Name: "invoices", Sessions: true}},
//	})
//	...
//	defer e.Close()
//	client, err := azeventhubs.NewConsumerClientFromConnectionString(e.ConnectionString(), "orders", "$Default", nil)
//	bus, err := azservicebus.NewClientFromConnectionString(e.ConnectionString(), nil)
//
// # How it is made
//
// A connection has one goroutine that reads frames and one that writes them, and a mutex that guards its sessions and
// links. A partition guards its own log, and a queue its messages, sessions and receivers; a topic is a queue that keeps
// what is scheduled, and each of its subscriptions is one. Locks are taken in this order, never in another: a
// connection's, that of a partition or of a topic, a queue's, that of its dead-letter queue. No connection takes the lock
// of another: to detach a link of another connection, as a thief of an owner level must, it is marked and its connection
// woken (see link.kick), and so it is when a link that waits for a session gets one (see link.decide). Messages are
// encoded when they arrive, but for what changes with a delivery; delivering one is a copy into a buffer that goes out in
// one write with its neighbours.
//
// What happens in a queue at some time, such as the end of a lock, happens when the queue is next looked at, and a timer
// looks if nobody does.
//
// # What is left out
//
// TLS and WebSockets; management over HTTP but for what [Emulator.AdminHandler] serves; geo-replication (a hub's
// georeplication_factor is 1); capture; schema registry; publisher policies; of Service Bus, forwarding, partitioned
// entities, deletion on idle, and limits to how many receivers and sessions there are; and Microsoft Entra ID: a JSON web
// token is refused unless [Options.AllowAnyToken] is set. Refused when asked for: transactions (amqp:not-implemented),
// sending to a publisher's address (amqp:not-implemented), sending to a synthetic hub or queue, to a subscription or to a
// dead-letter queue (amqp:not-allowed), requests that are not known (status 501), and the resumption of links. The
// capability com.microsoft:idempotent-producer is not offered, so its clients see that it is missing. Events and messages
// are held in memory alone, and are gone when the emulator is closed.
package emulator

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what an emulator holds. The zero value is an emulator that holds nothing.
type Options struct {
	// Address is where to listen, 127.0.0.1:0 by default, which picks a free port. It must be a loopback address:
	// the connection is in the clear.
	Address string
	Hubs    []Hub
	Queues  []Queue
	Topics  []Topic
	// KeyName and Key are the shared access key with all rights that ConnectionString holds. The defaults are
	// RootManageSharedAccessKey and a random key.
	KeyName, Key string
	// Keys are more keys, to test what a client does that lacks a right.
	Keys []Key
	// AllowAnyToken accepts every token, also JSON web tokens, with all rights and without an end.
	AllowAnyToken bool
	Limits        Limits
	// Now is the clock for enqueued times, retention, locks, what is scheduled, and the expiry of messages and tokens;
	// time.Now by default. It must be safe for concurrent use. Timeouts of connections and links go by the real clock
	// whatever it is, and so does waiting for a session.
	Now func() time.Time
	// Logger gets a line for every connection, link and fault at debug level; none by default.
	Logger *slog.Logger
}

// Key is a shared access key.
type Key struct {
	Name, Value  string
	Send, Listen bool
	Manage       bool // also what [Emulator.AdminHandler] serves
}

// Emulator is a running namespace. Its methods are safe for concurrent use.
type Emulator struct {
	options  Options
	limits   Limits
	listener net.Listener
	keys     keyring
	rights   map[string]Key
	hubs     map[string]*hub   // by lower-cased name
	entities map[string]entity // the hubs
	queues   map[string]*queue // queues, topics, subscriptions and sub-queues by lower-cased path
	started  time.Time
	log      *slog.Logger
	faults   faults

	connectionIDs atomic.Int64
	wg            sync.WaitGroup

	mu          sync.Mutex
	closed      bool
	connections map[*connection]struct{}
}

// Start listens and serves until Close. Its errors are of options that make no sense, and of listening.
func Start(o Options) (*Emulator, error) {
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	if o.KeyName == "" {
		o.KeyName = "RootManageSharedAccessKey"
	}
	if o.Key == "" {
		key := make([]byte, 32)
		rand.Read(key)
		o.Key = base64.StdEncoding.EncodeToString(key)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Emulator{
		options: o, limits: o.Limits.withDefaults(), started: o.Now().Truncate(time.Millisecond), log: o.Logger,
		keys: keyring{}, rights: map[string]Key{}, hubs: map[string]*hub{}, entities: map[string]entity{}, queues: map[string]*queue{},
		connections: map[*connection]struct{}{},
	}
	for _, k := range append([]Key{{Name: o.KeyName, Value: o.Key, Send: true, Listen: true, Manage: true}}, o.Keys...) {
		if k.Name == "" || k.Value == "" {
			return nil, errors.New("start emulator: a key has no name or no value")
		}
		if _, twice := e.keys[k.Name]; twice {
			return nil, fmt.Errorf("start emulator: the key name %q is there twice", k.Name)
		}
		e.keys[k.Name], e.rights[k.Name] = k.Value, k
	}
	for _, h := range o.Hubs {
		made, err := newHub(e, h)
		if err != nil {
			return nil, fmt.Errorf("start emulator: hub %q: %w", h.Name, err)
		}
		name := strings.ToLower(h.Name)
		if _, twice := e.hubs[name]; twice {
			return nil, fmt.Errorf("start emulator: hub %q: the name is there twice; names differ by more than case", h.Name)
		}
		e.hubs[name], e.entities[name] = made, made
	}
	for _, q := range o.Queues {
		if err := e.addQueue(q); err != nil {
			return nil, fmt.Errorf("start emulator: queue %q: %w", q.Name, err)
		}
	}
	for _, t := range o.Topics {
		if err := e.addTopic(t); err != nil {
			return nil, fmt.Errorf("start emulator: topic %q: %w", t.Name, err)
		}
	}
	if err := e.listen(); err != nil {
		return nil, fmt.Errorf("start emulator: %w", err)
	}
	return e, nil
}

func (e *Emulator) listen() error {
	address, err := net.ResolveTCPAddr("tcp", e.options.Address)
	if err != nil {
		return fmt.Errorf("resolve address %q: %w", e.options.Address, err)
	}
	if !address.IP.IsLoopback() {
		return fmt.Errorf("listen on %q: it is no loopback address, and connections are in the clear; use 127.0.0.1:PORT", e.options.Address)
	}
	if e.listener, err = net.ListenTCP("tcp", address); err != nil {
		return err // it names the operation and the address
	}
	e.wg.Go(e.accept)
	return nil
}

func (e *Emulator) accept() {
	for {
		c, err := e.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			e.log.Debug("accept failed", "error", err)
			time.Sleep(10 * time.Millisecond) // out of descriptors, most likely: do not spin
			continue
		}
		e.serve(c)
	}
}

func (e *Emulator) serve(nc net.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	// A few above the limit are told why in words that AMQP has; a flood is not.
	if e.closed || len(e.connections) >= e.limits.Connections+connectionsToRefuse {
		nc.Close()
		return
	}
	c := newConnection(e, nc, len(e.connections) >= e.limits.Connections)
	e.connections[c] = struct{}{}
	e.wg.Go(func() {
		c.serve()
		e.mu.Lock()
		delete(e.connections, c)
		e.mu.Unlock()
	})
}

// Close stops listening, drops all connections, and returns after everything that the emulator started has ended.
func (e *Emulator) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	err := e.listener.Close()
	e.DropConnections()
	e.wg.Wait()
	for _, q := range e.queues {
		q.close()
	}
	if errors.Is(err, net.ErrClosed) {
		return nil // closed before
	}
	return err
}

// Address is where the emulator listens, host:port.
func (e *Emulator) Address() string { return e.listener.Addr().String() }

// ConnectionString is what clients connect with. It holds the key, so it must not get into a log.
func (e *Emulator) ConnectionString() string {
	return e.connectionString(Key{Name: e.options.KeyName, Value: e.options.Key})
}

// ConnectionStringFor is a connection string with another key of the options, or with a wrong one.
func (e *Emulator) ConnectionStringFor(keyName, key string) string {
	return e.connectionString(Key{Name: keyName, Value: key})
}

func (e *Emulator) connectionString(k Key) string {
	return fmt.Sprintf("Endpoint=sb://%s;SharedAccessKeyName=%s;SharedAccessKey=%s;UseDevelopmentEmulator=true", e.Address(), k.Name, k.Value)
}

func (e *Emulator) now() time.Time { return e.options.Now() }

// snapshot returns the connections of this moment.
func (e *Emulator) snapshot() []*connection {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*connection, 0, len(e.connections))
	for c := range e.connections {
		all = append(all, c)
	}
	return all
}
