package emulator_test

import (
	"fmt"
	"testing"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"
)

// attached opens a receiver on partition 0 for an instance, with an owner level or none, and receives the
// one event that is there, so that its link is known to be attached.
func attached(t *testing.T, e *emulator.Emulator, instance string, level *int64) *azeventhubs.PartitionClient {
	t.Helper()
	p := unattached(t, e, instance, level)
	receive(t, p, 1)
	return p
}

func unattached(t *testing.T, e *emulator.Emulator, instance string, level *int64) *azeventhubs.PartitionClient {
	t.Helper()
	return newPartition(t, newConsumer(t, e, instance, atOnce), "0", azeventhubs.PartitionClientOptions{StartPosition: earliest, OwnerLevel: level})
}

// lost receives until a receiver's link is gone, and returns why. There is nothing for it to receive.
func lost(t *testing.T, p *azeventhubs.PartitionClient) error {
	t.Helper()
	events, err := p.ReceiveEvents(withTimeout(t), 1, nil)
	if err == nil {
		t.Fatalf("received %q, want to have lost the link", bodies(events))
	}
	return err
}

func oneEvent(t *testing.T) *emulator.Emulator {
	t.Helper()
	e := run(t, emulator.Options{})
	publish(t, newProducer(t, e, atOnce), "0", "the only event")
	return e
}

// A receiver with the same owner level or a higher one takes the partition over: the last one wins.
func TestOwnerLevelTakesOver(t *testing.T) {
	for _, c := range []struct{ first, second int64 }{{2, 2}, {0, 1}, {1, 1 << 40}, {0, 0}} {
		t.Run(fmt.Sprintf("%d after %d", c.second, c.first), func(t *testing.T) {
			e := oneEvent(t)
			first := attached(t, e, "first", &c.first)
			second := attached(t, e, "second", &c.second)
			wantCode(t, lost(t, first), azeventhubs.ErrorCodeOwnershipLost, fmt.Sprintf(
				"New receiver 'second' with higher epoch of '%d' is created hence current receiver 'first' with epoch '%d' is getting disconnected. If you are recreating the receiver, make sure a higher epoch is used.",
				c.second, c.first))
			publish(t, newProducer(t, e, atOnce), "0", "another")
			receive(t, second, 1)
		})
	}
}

// stolen is the code that the client has for a link that was refused with amqp:link:stolen: it takes
// only a link that was attached for stolen, and anything else on the way there for a lost connection.
const stolen = azeventhubs.ErrorCodeConnectionLost

// A receiver with a lower owner level or none is refused, and the owner does not notice.
func TestOwnerLevelRefuses(t *testing.T) {
	e := oneEvent(t)
	owner := attached(t, e, "owner", ptr(int64(2)))
	err := lost(t, unattached(t, e, "late", ptr(int64(1))))
	wantCode(t, err, stolen, "amqp:link:stolen")
	wantCode(t, err, stolen,
		"Receiver 'owner' with a higher epoch '2' already exists. Receiver 'late' with epoch 1 cannot be created. Make sure you are creating receiver with increasing epoch value to ensure connectivity, or ensure all old epoch receivers are closed or disconnected")
	err = lost(t, unattached(t, e, "plain", nil))
	wantCode(t, err, stolen, "amqp:link:stolen")
	wantCode(t, err, stolen,
		"At least one receiver for the endpoint is created with epoch of '2', and so non-epoch receiver is not allowed. Either reconnect with a higher epoch, or make sure all epoch receivers are closed or disconnected.")
	publish(t, newProducer(t, e, atOnce), "0", "another")
	receive(t, owner, 1)
}

// An instance id that the client made up by itself is what the refusal names.
func TestOwnerLevelNamesTheInstance(t *testing.T) {
	e := oneEvent(t)
	c := newConsumer(t, e, "", atOnce)
	receive(t, newPartition(t, c, "0", azeventhubs.PartitionClientOptions{StartPosition: earliest, OwnerLevel: ptr(int64(1))}), 1)
	wantCode(t, lost(t, unattached(t, e, "late", ptr(int64(0)))), stolen,
		fmt.Sprintf("Receiver '%s' with a higher epoch '1' already exists. Receiver 'late' with epoch 0 cannot be created.", c.InstanceID()))
}

// A receiver with an owner level takes over from all that have none.
func TestOwnerLevelTakesOverFromReaders(t *testing.T) {
	e := oneEvent(t)
	var readers []*azeventhubs.PartitionClient
	for i := range 5 {
		readers = append(readers, attached(t, e, fmt.Sprint("reader ", i), nil))
	}
	attached(t, e, "owner", ptr(int64(0)))
	for _, r := range readers {
		wantCode(t, lost(t, r), azeventhubs.ErrorCodeOwnershipLost, "New receiver 'owner' with higher epoch of '0' is created")
	}
}

// Five receivers without an owner level may read a partition in one consumer group; the sixth is
// refused until one of them leaves.
func TestFiveReaders(t *testing.T) {
	e := oneEvent(t)
	var readers []*azeventhubs.PartitionClient
	for i := range 5 {
		readers = append(readers, attached(t, e, fmt.Sprint("reader ", i), nil))
	}
	wantCondition(t, lost(t, unattached(t, e, "sixth", nil)), amqp.ErrCondResourceLimitExceeded,
		"Exceeded the maximum number of allowed receivers per partition in a consumer group which is 5. List of connected receivers - ")
	if err := readers[2].Close(withTimeout(t)); err != nil {
		t.Fatal(err)
	}
	attached(t, e, "sixth", nil)
}

// The owner level goes with the link: once its link is closed any receiver may come.
func TestOwnerLevelEndsWithTheLink(t *testing.T) {
	e := oneEvent(t)
	owner := attached(t, e, "owner", ptr(int64(9)))
	if err := owner.Close(withTimeout(t)); err != nil {
		t.Fatal(err)
	}
	attached(t, e, "plain", nil)
	attached(t, e, "lower", ptr(int64(3)))
}

// The owner level goes with the connection too: a crashed owner holds up nobody.
func TestOwnerLevelEndsWithTheConnection(t *testing.T) {
	e := oneEvent(t)
	attached(t, e, "owner", ptr(int64(9)))
	if n := e.DropConnections(); n < 1 {
		t.Fatalf("dropped %d connections", n)
	}
	attached(t, e, "plain", nil)
}

// An owner's rights end at its partition and its consumer group. And taking over detaches one link: the
// connection that it was on, its sessions and its other links stay.
func TestOwnerLevelScope(t *testing.T) {
	e := run(t, emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: 2, ConsumerGroups: []string{"audit"}}}})
	p := newProducer(t, e, atOnce)
	publish(t, p, "0", "a")
	publish(t, p, "1", "b")
	c := newConsumer(t, e, "first", atOnce)
	level := azeventhubs.PartitionClientOptions{StartPosition: earliest, OwnerLevel: ptr(int64(5))}
	zero, one := newPartition(t, c, "0", level), newPartition(t, c, "1", level)
	receive(t, zero, 1)
	receive(t, one, 1)

	audit, err := azeventhubs.NewConsumerClientFromConnectionString(e.ConnectionString(), hub, "audit", nil)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, audit)
	receive(t, newPartition(t, audit, "0", azeventhubs.PartitionClientOptions{StartPosition: earliest}), 1)

	attached(t, e, "second", ptr(int64(6)))
	lost(t, zero)
	publish(t, p, "1", "c")
	if got := bodies(receive(t, one, 1)); got[0] != "c" {
		t.Errorf("the other partition's link received %q, want c", got)
	}
}
