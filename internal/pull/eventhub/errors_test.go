package eventhub

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2/checkpoints"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"persistor/internal/pull"
)

// What goes wrong with checkpoints is told in one line, without the SAS that opens their container, be it
// that storage is away or that it refuses.
func TestCheckpointErrorsHoldNoSecret(t *testing.T) {
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-ms-error-code", "AuthenticationFailed")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("<Error>\n<Code>AuthenticationFailed</Code>\n<Detail>" + r.URL.RawQuery + "</Detail>\n</Error>"))
	}))
	defer refuses.Close()
	for name, address := range map[string]string{"away": "http://127.0.0.1:1", "refuses": refuses.URL} {
		client, err := container.NewClientWithNoCredential(address+"/account/checkpoints?sv=2024-11-04&sig=c2VjcmV0", &container.ClientOptions{
			ClientOptions: azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}},
		})
		if err != nil {
			t.Fatal(err)
		}
		kept, err := checkpoints.NewBlobStore(client, nil)
		if err != nil {
			t.Fatal(err)
		}
		h, err := Connect(Options{
			ConnectionString: "Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=k;SharedAccessKey=a2V5;UseDevelopmentEmulator=true",
			EventHub:         "hub", Checkpoints: kept,
		})
		if err != nil {
			t.Fatal(err)
		}
		_, _, _, listing := h.Open(t.Context(), "0", OpenOptions{})
		setting := (&Source{hub: h, partition: "0"}).Checkpoint(t.Context(), pull.Mark{SequenceNumber: 1, Offset: "1"})
		for _, err := range []error{listing, setting} {
			if err == nil {
				t.Fatalf("%s: no error", name)
			}
			text := err.Error()
			t.Log(text)
			if strings.Contains(text, "c2VjcmV0") || strings.Contains(text, "\n") || !strings.Contains(text, "EVENT_HUB_CHECKPOINT_CONTAINER") || len(text) > 600 {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
}
