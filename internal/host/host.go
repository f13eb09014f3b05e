// Package host speaks the custom handler protocol of the Azure Functions host: the host starts a program,
// tells it a port in FUNCTIONS_CUSTOMHANDLER_PORT, and POSTs every call of a function to http://127.0.0.1:PORT/NAME.
//
// What is known of the wire, from the host's source (Azure/azure-functions-host: ScriptInvocationContextExtensions,
// DefaultHttpWorkerService) unless another source is given:
//
//   - A body is {"Data":{...},"Metadata":{...}}, sent in chunks without a Content-Length. Objects are nested;
//     other values are JSON text within a JSON string, but for bytes, which are base64; see [Payload] and
//     [Metadata]. Nulls are left out.
//   - With one string as payload that is a JSON object, its top-level properties that are no arrays overwrite
//     metadata of the same name (azure-webjobs-sdk: Utility.ApplyBindingData). So metadata of such an invocation
//     is worth what the sender's word is worth; dataType binary avoids it.
//   - The host takes a function's outcome from a status of 2xx with a JSON object. Of any other status it drops body
//     and logs, so a failure is told in the program's own log. A 2xx without a body, or with null, would leave
//     the invocation open until the function times out; [Handler] can't answer so.
//   - The host follows redirects with GET, so paths are matched exactly.
//   - It gives up on a call at functionTimeout without closing the connection, then kills the process. So a [Function] keeps to a
//     deadline of its own.
//   - HTTP functions are forwarded with their own method and path where host.json says so and the function has nothing but
//     an HTTP trigger and an HTTP output; else they come as invocations, which [HTTP] serves.
package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sort"
	"strings"
	"time"
)

const (
	// InvocationHeader carries the id of an invocation, also on forwarded HTTP requests.
	InvocationHeader = "X-Azure-Functions-InvocationId"
	traceHeader      = "Traceparent"

	// maxBody bounds an invocation, in bytes. The largest are batches: 100 events of 1 MiB are 134 MiB in
	// base64, as are the default 1,000 messages of Service Bus's standard tier, with 100 KiB each. It is twice that.
	maxBody = 256 << 20
	// bodyTimeout bounds how long the host, which is on the same machine, may take to send that.
	bodyTimeout = time.Minute
)

// Invocation is one call of a function by the host.
type Invocation struct {
	Function string
	ID       string // as the host's logs have it; "" when the call did not say
	Trace    string // the traceparent header, "" when there is none
	// Data is by binding name, as the host wrote it.
	Data     map[string]json.RawMessage
	Metadata Metadata
}

// Payload is the data of the one input binding that there is. The error names what there is when it is
// not exactly one.
func (i *Invocation) Payload() (name string, p Payload, err error) {
	if len(i.Data) == 1 {
		for name, data := range i.Data {
			return name, Payload(data), nil
		}
	}
	return "", nil, fmt.Errorf("read payload of function %s: the host sent %s: want one input binding in function.json",
		i.Function, listed(i.Data, "no data"))
}

// listed names the keys in order, or says none; what a caller made up is cut short.
func listed[V any](m map[string]V, none string) string {
	const most = 20
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, fmt.Sprintf("%.40q", name))
	}
	sort.Strings(names)
	if len(names) > most {
		names = append(names[:most], "...")
	}
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}

// readInvocation decodes a call of so many bytes at most. The error is the caller's, but for a body that is too long, which is an [http.MaxBytesError].
func readInvocation(w http.ResponseWriter, r *http.Request, function string, most int64) (*Invocation, error) {
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(bodyTimeout)) // not every ResponseWriter has one; the server's has
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return nil, fmt.Errorf("read invocation of %s: it is longer than %d bytes: lower the trigger's batch size in host.json: %w", function, most, tooLong)
	}
	if err != nil {
		return nil, fmt.Errorf("read invocation of %s: %w", function, err)
	}
	_ = connection.SetReadDeadline(time.Time{}) // it would cancel the function
	i, err := decode(body)
	if err != nil {
		return nil, fmt.Errorf("read invocation of %s: %w", function, err)
	}
	i.Function, i.ID, i.Trace = function, r.Header.Get(InvocationHeader), r.Header.Get(traceHeader)
	return i, nil
}

// decode takes a body apart as far as its bindings.
func decode(body []byte) (*Invocation, error) {
	var wire *struct {
		Data     map[string]json.RawMessage
		Metadata Metadata
	}
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, fmt.Errorf(`want {"Data":{...},"Metadata":{...}}: %w`, err)
	}
	if wire == nil {
		return nil, errors.New(`want {"Data":{...},"Metadata":{...}}, not null`)
	}
	return &Invocation{Data: wire.Data, Metadata: wire.Metadata}, nil
}

// Response is what a function answers; it is never empty on the wire.
type Response struct {
	// Outputs are by binding name. A string is written as it is, but a blob output decodes one that is valid
	// base64, unless its binding has dataType binary; anything else is written as JSON.
	Outputs map[string]any
	// Logs go to the host's log, for information.
	Logs        []string
	ReturnValue any
}

// Function carries out one invocation. An error is a failure: the host retries, abandons or dead-letters as the
// trigger has it. It is logged. The context ends when the program stops, and not when the host loses patience.
// A Function may be called concurrently, and may keep the invocation.
type Function func(ctx context.Context, i *Invocation) (Response, error)

// encode is the answer's body; nil slices and maps are written as empty, for the host reads no null.
func (r Response) encode() ([]byte, error) {
	if r.Outputs == nil {
		r.Outputs = map[string]any{}
	}
	if r.Logs == nil {
		r.Logs = []string{}
	}
	return encode(r)
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return b.Bytes(), err
}
