package emulator_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"persistor/emulator"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"
	"github.com/Azure/go-amqp"
)

// dialAMQP is a go-amqp connection without any token yet.
func dialAMQP(t testing.TB, e *emulator.Emulator) *amqp.Conn {
	t.Helper()
	conn, err := amqp.Dial(withTimeout(t), "amqp://"+e.Address(), &amqp.ConnOptions{SASLType: amqp.SASLTypeAnonymous()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func newSession(t testing.TB, conn *amqp.Conn) *amqp.Session {
	t.Helper()
	s, err := conn.NewSession(withTimeout(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newSender is a link on a connection of its own, with a token for the hub.
func newSender(t testing.TB, e *emulator.Emulator, address string, o *amqp.SenderOptions) *amqp.Sender {
	t.Helper()
	conn := dialAMQP(t, e)
	authorize(t, e, conn)
	s, err := newSession(t, conn).NewSender(withTimeout(t), address, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newReceiver is a link to partition 0 on a connection of its own, with a token for the hub.
func newReceiver(t testing.TB, e *emulator.Emulator, o *amqp.ReceiverOptions) *amqp.Receiver {
	t.Helper()
	conn := dialAMQP(t, e)
	authorize(t, e, conn)
	r, err := newSession(t, conn).NewReceiver(withTimeout(t), partition0, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const partition0 = hub + "/ConsumerGroups/$Default/Partitions/0"

// fromStart is the filter that asks for everything.
var fromStart = []amqp.LinkFilter{amqp.NewSelectorFilter("amqp.annotation.x-opt-offset > '-1'")}

// authorize puts a token for the namespace on a connection.
func authorize(t testing.TB, e *emulator.Emulator, conn *amqp.Conn) {
	t.Helper()
	reply, err := call(withTimeout(t), conn, "$cbs", putToken(e, hub, token(e, e.Address(), time.Now().Add(time.Hour))))
	if err != nil {
		t.Fatal(err)
	}
	if code := reply.ApplicationProperties["status-code"]; code != int32(200) && code != int32(202) {
		t.Fatalf("put-token: status %v, %v", code, reply.ApplicationProperties["status-description"])
	}
}

// putToken is the request that puts a token for an entity.
func putToken(e *emulator.Emulator, entity, token string) *amqp.Message {
	return &amqp.Message{
		Value: token,
		ApplicationProperties: map[string]any{
			"operation": "put-token",
			"type":      "servicebus.windows.net:sastoken",
			"name":      "amqp://" + e.Address() + "/" + entity,
		},
	}
}

// call makes one request to a node over a session of its own, and returns the reply.
func call(ctx context.Context, conn *amqp.Conn, node string, request *amqp.Message) (*amqp.Message, error) {
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("begin session: %w", err)
	}
	defer session.Close(ctx)
	replies, err := session.NewReceiver(ctx, node, &amqp.ReceiverOptions{TargetAddress: "replies"})
	if err != nil {
		return nil, fmt.Errorf("attach receiver: %w", err)
	}
	requests, err := session.NewSender(ctx, node, nil)
	if err != nil {
		return nil, fmt.Errorf("attach sender: %w", err)
	}
	if request.Properties == nil {
		request.Properties = &amqp.MessageProperties{MessageID: "request"}
	}
	request.Properties.ReplyTo = ptr("replies")
	if err := requests.Send(ctx, request, nil); err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	reply, err := replies.Receive(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("receive reply: %w", err)
	}
	return reply, replies.AcceptMessage(ctx, reply)
}

// token signs a token for a resource with the emulator's key.
func token(e *emulator.Emulator, resource string, expires time.Time) string {
	p, err := azeventhubs.ParseConnectionString(e.ConnectionString())
	if err != nil {
		panic(err)
	}
	return signed(resource, *p.SharedAccessKeyName, *p.SharedAccessKey, expires)
}

func signed(resource, keyName, key string, expires time.Time) string {
	sr := strings.ToLower(url.QueryEscape(resource))
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%s\n%d", sr, expires.Unix())
	return fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%d&skn=%s", sr, url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil))), expires.Unix(), keyName)
}

// withToken is a connection string that holds a ready-made token in place of the key.
func withToken(e *emulator.Emulator, token string) string {
	return fmt.Sprintf("Endpoint=sb://%s;SharedAccessSignature=%s;UseDevelopmentEmulator=true", e.Address(), token)
}

func withKey(e *emulator.Emulator, name, key string) string {
	return fmt.Sprintf("Endpoint=sb://%s;SharedAccessKeyName=%s;SharedAccessKey=%s;UseDevelopmentEmulator=true", e.Address(), name, key)
}

// A token made beforehand, for the whole namespace, opens everything.
func TestReadyMadeToken(t *testing.T) {
	e := run(t, emulator.Options{})
	cs := withToken(e, token(e, e.Address(), time.Now().Add(time.Hour)))
	p, err := azeventhubs.NewProducerClientFromConnectionString(cs, hub, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, p)
	publish(t, p, "0", "sent with a token")
	c, err := azeventhubs.NewConsumerClientFromConnectionString(cs, hub, azeventhubs.DefaultConsumerGroup, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, c)
	if got := bodies(receive(t, newPartition(t, c, "0", azeventhubs.PartitionClientOptions{StartPosition: earliest}), 1)); got[0] != "sent with a token" {
		t.Errorf("received %q", got)
	}
}

// Wrong credentials are refused, with the words of the service, for sending, receiving and asking; the
// client takes each for final and does not try again.
func TestWrongCredentials(t *testing.T) {
	e := run(t, emulator.Options{})
	p, err := azeventhubs.ParseConnectionString(e.ConnectionString())
	if err != nil {
		t.Fatal(err)
	}
	name, key := *p.SharedAccessKeyName, *p.SharedAccessKey
	wrong := base64.StdEncoding.EncodeToString([]byte("another key"))
	for _, c := range []struct{ name, cs, want string }{
		{"expired", withToken(e, token(e, e.Address(), time.Now().Add(-10*time.Minute))), "rpc: failed, status code 401 and description: ExpiredToken: The token is expired. Expiration time:"},
		{"wrong key", withKey(e, name, wrong), "rpc: failed, status code 401 and description: InvalidSignature: The token has an invalid signature."},
		{"unknown key name", withKey(e, "nobody", key), "rpc: failed, status code 401 and description: InvalidSignature: The token has an invalid signature."},
		{"for another hub", withToken(e, token(e, e.Address()+"/other", time.Now().Add(time.Hour))), "rpc: failed, status code 401 and description: InvalidAudience: "},
		{"for another host", withToken(e, token(e, "elsewhere", time.Now().Add(time.Hour))), "rpc: failed, status code 401 and description: InvalidAudience: "},
		{"no token at all", withToken(e, "nonsense"), "rpc: failed, status code 401 and description: MalformedToken: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			producer, err := azeventhubs.NewProducerClientFromConnectionString(c.cs, hub, nil)
			if err != nil {
				t.Fatal(err)
			}
			closeLater(t, producer)
			consumer, err := azeventhubs.NewConsumerClientFromConnectionString(c.cs, hub, azeventhubs.DefaultConsumerGroup, nil)
			if err != nil {
				t.Fatal(err)
			}
			closeLater(t, consumer)
			check := func(err error) {
				t.Helper()
				wantCode(t, err, azeventhubs.ErrorCodeUnauthorizedAccess, c.want)
				if strings.Contains(err.Error(), key) || strings.Contains(err.Error(), wrong) {
					t.Errorf("the error tells a key: %v", err)
				}
			}
			_, err = producer.NewEventDataBatch(withTimeout(t), nil)
			check(err)
			_, err = newPartition(t, consumer, "0", azeventhubs.PartitionClientOptions{}).ReceiveEvents(withTimeout(t), 1, nil)
			check(err)
			_, err = consumer.GetPartitionProperties(withTimeout(t), "0", nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("properties: %v, want %q", err, c.want)
			}
		})
	}
}

// Without a token for it a link is refused, in the words that clients look for.
func TestLinkWithoutToken(t *testing.T) {
	e := run(t, emulator.Options{Hubs: []emulator.Hub{{Name: hub, Partitions: 1}, {Name: "other", Partitions: 1}}})
	conn := dialAMQP(t, e)
	refused := func() {
		t.Helper()
		_, err := newSession(t, conn).NewSender(withTimeout(t), hub, nil)
		wantCondition(t, err, amqp.ErrCondUnauthorizedAccess, "Unauthorized access. 'Send' claim(s) are required to perform this operation")
		_, err = newSession(t, conn).NewReceiver(withTimeout(t), partition0, nil)
		wantCondition(t, err, amqp.ErrCondUnauthorizedAccess, "Unauthorized access. 'Listen' claim(s) are required to perform this operation")
	}
	refused()
	reply, err := call(withTimeout(t), conn, "$cbs", putToken(e, "other", token(e, e.Address()+"/other", time.Now().Add(time.Hour))))
	if err != nil || reply.ApplicationProperties["status-code"] == int32(401) {
		t.Fatalf("put-token: %v, %v", reply, err)
	}
	refused() // a token for another hub changes nothing
	authorize(t, e, conn)
	if _, err := newSession(t, conn).NewSender(withTimeout(t), hub, nil); err != nil {
		t.Error(err)
	}
}

// A key that lacks a right is good for the other, and the client is told which one is missing.
func TestRights(t *testing.T) {
	e := run(t, emulator.Options{Keys: []emulator.Key{{Name: "listen", Value: "bGlzdGVu", Listen: true}, {Name: "send", Value: "c2VuZA==", Send: true}}})
	for _, c := range []struct {
		name, key     string
		sends, listen bool
	}{{"listen", "bGlzdGVu", false, true}, {"send", "c2VuZA==", true, false}} {
		p, err := azeventhubs.NewProducerClientFromConnectionString(e.ConnectionStringFor(c.name, c.key), hub, nil)
		if err != nil {
			t.Fatal(err)
		}
		closeLater(t, p)
		if err = trySend(withTimeout(t), p, azeventhubs.EventDataBatchOptions{PartitionID: ptr("0")}, &azeventhubs.EventData{}); c.sends {
			if err != nil {
				t.Errorf("send with the right to: %v", err)
			}
		} else {
			wantCode(t, err, azeventhubs.ErrorCodeUnauthorizedAccess, "Description: Unauthorized access. 'Send' claim(s) are required to perform this operation")
		}
		client, err := azeventhubs.NewConsumerClientFromConnectionString(e.ConnectionStringFor(c.name, c.key), hub, azeventhubs.DefaultConsumerGroup, nil)
		if err != nil {
			t.Fatal(err)
		}
		closeLater(t, client)
		partition := newPartition(t, client, "0", azeventhubs.PartitionClientOptions{StartPosition: earliest})
		if c.listen {
			publish(t, newProducer(t, e, atOnce), "0", "event")
			receive(t, partition, 1)
			continue
		}
		_, err = partition.ReceiveEvents(withTimeout(t), 1, nil)
		wantCode(t, err, azeventhubs.ErrorCodeUnauthorizedAccess, "Description: Unauthorized access. 'Listen' claim(s) are required to perform this operation")
	}
}

// When its token expires a link is detached, and not before; a token put in time keeps it.
func TestTokenExpiry(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC).UnixNano())
	clock := func() time.Time { return time.Unix(0, now.Load()) }
	e := run(t, emulator.Options{Now: clock})
	// With a short idle timeout the emulator looks at the connection often.
	conn, err := amqp.Dial(withTimeout(t), "amqp://"+e.Address(), &amqp.ConnOptions{SASLType: amqp.SASLTypeAnonymous(), IdleTimeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	authorizeFor := func(d time.Duration) {
		t.Helper()
		reply, err := call(withTimeout(t), conn, "$cbs", putToken(e, hub, token(e, e.Address(), clock().Add(d))))
		if err != nil || reply.ApplicationProperties["status-code"].(int32) > 299 {
			t.Fatal(reply, err)
		}
	}
	authorizeFor(time.Hour)
	r, err := newSession(t, conn).NewReceiver(withTimeout(t), partition0, nil)
	if err != nil {
		t.Fatal(err)
	}
	now.Add(int64(59 * time.Minute))
	authorizeFor(time.Hour)
	now.Add(int64(59 * time.Minute))
	s, err := newSession(t, conn).NewSender(withTimeout(t), hub+"/Partitions/0", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(withTimeout(t), amqp.NewMessage([]byte("in time")), nil); err != nil {
		t.Fatal(err)
	}
	mustReceive(t, r)
	now.Add(int64(2 * time.Minute))
	_, err = r.Receive(withTimeout(t), nil)
	wantCondition(t, err, amqp.ErrCondUnauthorizedAccess, "")
}

// The reply to put-token, good or bad, has what every client looks for, and the connection stays good.
func TestPutTokenReply(t *testing.T) {
	e := run(t, emulator.Options{})
	conn := dialAMQP(t, e)
	for _, c := range []struct {
		name, token string
		want        int32
	}{
		{"bad", "nonsense", 401},
		{"good", token(e, e.Address(), time.Now().Add(time.Hour)), 202},
	} {
		request := putToken(e, hub, c.token)
		request.Properties = &amqp.MessageProperties{MessageID: uint64(77)}
		reply, err := call(withTimeout(t), conn, "$cbs", request)
		if err != nil {
			t.Fatal(err)
		}
		p := reply.ApplicationProperties
		if code, ok := p["status-code"].(int32); !ok || (code != c.want && (c.want != 202 || code != 200)) || p["statusCode"] != code {
			t.Errorf("%s: status-code %v, statusCode %v, want an int of %d", c.name, p["status-code"], p["statusCode"], c.want)
		}
		if d, ok := p["status-description"].(string); !ok || d == "" || p["statusDescription"] != d {
			t.Errorf("%s: status-description %v, statusDescription %v", c.name, p["status-description"], p["statusDescription"])
		}
		if reply.Properties == nil || reply.Properties.CorrelationID != uint64(77) {
			t.Errorf("%s: properties %+v, want correlation id 77 as a ulong", c.name, reply.Properties)
		}
	}
}

// RefuseTokens refuses as many tokens as told, however good, and then no more.
func TestRefusedTokens(t *testing.T) {
	e := run(t, emulator.Options{})
	e.RefuseTokens(2)
	for range 2 {
		_, err := newProducer(t, e, quickly).NewEventDataBatch(withTimeout(t), nil)
		wantCode(t, err, azeventhubs.ErrorCodeUnauthorizedAccess, "status code 401")
	}
	if _, err := newProducer(t, e, atOnce).NewEventDataBatch(withTimeout(t), nil); err != nil {
		t.Error(err)
	}
}

// AllowAnyToken takes any token for any hub, for clients whose keys nobody knows.
func TestAllowAnyToken(t *testing.T) {
	e := run(t, emulator.Options{AllowAnyToken: true})
	p, err := azeventhubs.NewProducerClientFromConnectionString(withKey(e, "anybody", "c2VjcmV0"), hub, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, p)
	publish(t, p, "0", "hello")
}
