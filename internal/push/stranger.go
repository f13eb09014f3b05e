package push

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"time"

	"persistor/internal/host"
	"persistor/internal/message"
	"persistor/internal/pull"
	"persistor/internal/record"
)

// unidentified is the folder of what doesn't say what it is.
const unidentified = "unidentified"

// stranger stores an invocation apart that doesn't tell which messages it brings, or can't be believed in that, as
// the host handed it over: its data as the body, and its metadata as such. It returns nil when that is done, for who
// sends it again sends the same.
func (o *Options) stranger(ctx context.Context, deadline time.Time, i *host.Invocation, why error) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	metadata := maps.Clone(i.Metadata)
	for _, of := range []string{"sys", "RetryContext"} { // they are of this invocation, and not of what it brings
		delete(metadata, of)
	}
	data, err := json.Marshal(i.Data)
	if err == nil {
		var m message.Message
		m.Body = message.Body{Kind: message.JSON, JSON: data}
		m.Properties, err = propertiesOf(metadata)
		if err == nil {
			return o.putApart(ctx, &m, i.ID, why)
		}
	}
	return fmt.Errorf("%w; and keep the invocation: %w", why, err)
}

// putApart stores one message below _failed/, named by a digest of all that it holds.
func (o *Options) putApart(ctx context.Context, m *message.Message, invocation string, why error) error {
	body := record.Format{Metadata: true, Separator: o.Format.Separator}.Append(nil, m)
	digest := sha256.Sum256(body)
	name := record.EventHubFolder(apart(cmp.Or(o.Folder, eventFolder))+"/"+unidentified) + hex.EncodeToString(digest[:16]) + ".txt"
	metadata := map[string]string{"count": "1", "bytes": strconv.Itoa(len(body)), "run": runID(invocation)}
	where, err := o.refuge(ctx, func(ctx context.Context, sink pull.Sink) error {
		_, err := sink.Create(ctx, name, body, metadata)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w; %w", why, err)
	}
	o.log().ErrorContext(ctx, "stored apart what could not be stored in its place", "blob", name, "in", where, "error", why)
	return nil
}

// propertiesOf is what the host says of an invocation, as properties of a message.
func propertiesOf(m host.Metadata) (map[string]any, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return objectOf(raw)
}
