package hosttest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
)

// writeOutputs writes the blobs that an answer holds; an output that it lacks is not written. An error fails the
// invocation, though the handler has done its part.
func (h *Host) writeOutputs(ctx context.Context, c call, outputs map[string]json.RawMessage) error {
	for _, b := range c.function.outputs {
		raw, there := outputs[b.Name]
		if b.Type != "blob" || !there || string(raw) == "null" {
			continue
		}
		if err := h.writeBlob(ctx, b, c.metadata, outputBytes(b, raw)); err != nil {
			return fmt.Errorf("write output %s: %w", b.Name, err)
		}
	}
	return nil
}

// outputBytes is what a blob is to hold: of a string that is valid base64 the bytes, unless the binding's
// dataType is binary; of another string its UTF-8; of anything else its JSON, without white space.
func outputBytes(b binding, raw json.RawMessage) []byte {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		var compact bytes.Buffer
		_ = json.Compact(&compact, raw)
		return compact.Bytes()
	}
	if !b.binary() {
		bare := strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "").Replace(text) // .NET skips white space
		if decoded, err := base64.StdEncoding.DecodeString(bare); err == nil {
			return decoded
		}
	}
	return []byte(text)
}

// writeBlob puts a blob where the binding's path says, over one that is there. It makes the container.
func (h *Host) writeBlob(ctx context.Context, b binding, data bindingData, content []byte) error {
	t, err := parseTemplate(b.Path)
	if err != nil {
		return err
	}
	path, err := t.resolve(data)
	if err != nil {
		return fmt.Errorf("path %s: %w", b.Path, err)
	}
	container, name, _ := strings.Cut(path, "/")
	if container == "" || name == "" {
		return fmt.Errorf("path %s: %q is no CONTAINER/BLOB", b.Path, path)
	}
	text, err := h.app.settings.connection(b.Connection)
	if err != nil {
		return err
	}
	client, err := azblob.NewClientFromConnectionString(text, nil)
	if err != nil {
		return err
	}
	if _, err := client.CreateContainer(ctx, container, nil); err != nil && !bloberror.HasCode(err, bloberror.ContainerAlreadyExists) {
		return fmt.Errorf("create container %s: %w", container, err)
	}
	if _, err := client.UploadBuffer(ctx, container, name, content, nil); err != nil {
		return fmt.Errorf("write blob %s: %w", path, err)
	}
	return nil
}
