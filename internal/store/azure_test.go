package store

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
	"github.com/google/go-cmp/cmp"

	"persistor/internal/azurite/azuritetest"
)

// faults stands between the store and Azurite.
type faults struct {
	*httptest.Server
	direct *Azure // the same container, without faults
	meet   atomic.Pointer[meeting]
}

// meeting decides what becomes of a request: forward passes it on and returns what Azurite answered,
// answer answers it. The connection is closed if it does neither, or does not answer.
type (
	meeting     = func(r *http.Request, forward forwardFunc, answer answerFunc)
	forwardFunc = func() *httptest.ResponseRecorder
	answerFunc  = func(*httptest.ResponseRecorder)
)

// set puts every request from here on through meet.
func (f *faults) set(meet meeting) { f.meet.Store(&meet) }

// newFaults returns a store whose every request passes through faults.
func newFaults(t *testing.T) (*Azure, *faults) {
	t.Helper()
	connection := azuritetest.Run(t)
	target, err := url.Parse(setting(connection, "BlobEndpoint"))
	if err != nil {
		t.Fatal(err)
	}
	f := new(faults)
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target.Host})
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		meet := f.meet.Load()
		if meet == nil {
			forward.ServeHTTP(w, r)
			return
		}
		answered := false
		(*meet)(r,
			func() *httptest.ResponseRecorder {
				recorded := httptest.NewRecorder()
				forward.ServeHTTP(recorded, r)
				return recorded
			},
			func(recorded *httptest.ResponseRecorder) {
				answered = true
				for key, values := range recorded.Header() {
					w.Header()[key] = values
				}
				w.WriteHeader(recorded.Code)
				recorded.Body.WriteTo(w)
			})
		if !answered {
			panic(http.ErrAbortHandler) // closes the connection
		}
	}))
	t.Cleanup(f.Close)
	name := azuritetest.Container(t)
	f.direct, err = OpenAzure(t.Context(), Options{Location: connection, Container: name, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	through := strings.Replace(connection, target.Host, f.Listener.Addr().String(), 1)
	s, err := OpenAzure(t.Context(), Options{Location: through, Container: name})
	if err != nil {
		t.Fatal(err)
	}
	return s, f
}

// changes counts requests that write or remove: those that came, and those that were a success.
type changes struct{ sent, done atomic.Int32 }

// loseAnswers has what comes carried out, and loses the answers to the first n changes.
func (f *faults) loseAnswers(n int32) *changes {
	c := new(changes)
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		recorded := forward()
		if r.Method == http.MethodPut || r.Method == http.MethodDelete {
			if recorded.Code < 300 {
				c.done.Add(1)
			}
			if c.sent.Add(1) <= n {
				return
			}
		}
		answer(recorded)
	})
	return c
}

// answerNoPut leaves every client that writes waiting, whether what it sent is carried out or not.
func (f *faults) answerNoPut(carryOut bool) {
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		switch {
		case r.Method != http.MethodPut:
			answer(forward())
		case carryOut:
			forward()
			<-r.Context().Done()
		default:
			hang(r)
		}
	})
}

func setting(connection, key string) string {
	for part := range strings.SplitSeq(connection, ";") {
		if value, ok := strings.CutPrefix(part, key+"="); ok {
			return value
		}
	}
	return ""
}

// hang waits until the client gives the request up.
func hang(r *http.Request) {
	io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// status is an answer of nothing but its status.
func status(code int) *httptest.ResponseRecorder {
	recorded := httptest.NewRecorder()
	recorded.Code = code
	return recorded
}

// refused is an answer with one of the service's codes for errors.
func refused(code int, name string) *httptest.ResponseRecorder {
	recorded := status(code)
	recorded.Header().Set("x-ms-error-code", name)
	return recorded
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestAzureAnswerLost(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	puts := f.loseAnswers(2)
	existing, err := s.Create(t.Context(), "blob", []byte("content"), map[string]string{"last": "7"})
	if err != nil || existing != nil {
		t.Errorf("Create whose first answers were lost = %v, %v; want success", existing, err)
	}
	if puts.sent.Load() != 3 || puts.done.Load() != 1 {
		t.Errorf("%d Puts, %d stored; want 3 and 1", puts.sent.Load(), puts.done.Load())
	}
	if existing, err = s.Create(t.Context(), "blob", nil, nil); !errors.Is(err, ErrExists) || !cmp.Equal(existing, map[string]string{"last": "7"}) {
		t.Errorf("Create by another = %v, %v", existing, err)
	}
}

func TestAzureAllAnswersLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		stores bool
		other  bool // another writer stores it first
		want   error
	}{
		{"the blob is ours", true, false, nil},
		{"the blob is another's", true, true, ErrExists},
		{"there is no blob", false, false, context.DeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, f := newFaults(t)
			if c.other {
				if _, err := f.direct.Create(t.Context(), "blob", nil, map[string]string{"by": "another"}); err != nil {
					t.Fatal(err)
				}
			}
			f.answerNoPut(c.stores)
			ctx := within(t, 4*time.Second)
			existing, err := s.Create(ctx, "blob", []byte("content"), nil)
			if !errors.Is(err, c.want) || c.other != (existing["by"] == "another") {
				t.Errorf("Create = %v, %v; want %v", existing, err, c.want)
			}
			if ctx.Err() != nil {
				t.Error("no time was kept back to find out")
			}
		})
	}
}

// setsMetadata reports whether a request is that of SetMetadata.
func setsMetadata(r *http.Request) bool {
	return r.Method == http.MethodPut && r.URL.Query().Get("comp") == "metadata"
}

// TestAzureMarkSurvives changes the metadata of a blob while its writer still waits for the answer: by
// the mark it must know its blob.
func TestAzureMarkSurvives(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	first := true
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		recorded := forward()
		if r.Method == http.MethodPut && first {
			first = false
			if err := f.direct.SetMetadata(t.Context(), "blob", map[string]string{"last": "8"}); err != nil {
				t.Error(err)
			}
			return
		}
		answer(recorded)
	})
	if existing, err := s.Create(t.Context(), "blob", []byte("content"), map[string]string{"last": "7"}); err != nil || existing != nil || first {
		t.Errorf("Create = %v, %v; want success", existing, err)
	}
	if got, err := s.Metadata(t.Context(), "blob"); err != nil || !cmp.Equal(got, map[string]string{"last": "8"}) {
		t.Errorf("Metadata = %v, %v", got, err)
	}
	got, err := s.Container().NewBlobClient("blob").GetProperties(t.Context(), nil)
	if err != nil || *got.ContentType != contentType {
		t.Errorf("content type %q, %v", *got.ContentType, err)
	}
}

func TestAzureSetMetadataAnswerLost(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	if _, err := s.Create(t.Context(), "blob", nil, map[string]string{"n": "0"}); err != nil {
		t.Fatal(err)
	}
	var writes, written atomic.Int32
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		recorded := forward()
		if setsMetadata(r) {
			if recorded.Code == http.StatusOK {
				written.Add(1)
			}
			if writes.Add(1) <= 2 {
				return
			}
		}
		answer(recorded)
	})
	if err := s.SetMetadata(t.Context(), "blob", map[string]string{"n": "1"}); err != nil || written.Load() != 1 {
		t.Errorf("SetMetadata whose first answers were lost = %v, written %d times", err, written.Load())
	}
	// What is so already is not written again.
	before := writes.Load()
	if err := s.SetMetadata(t.Context(), "blob", map[string]string{"n": "1"}); err != nil || writes.Load() != before {
		t.Errorf("SetMetadata of what is there = %v, in %d requests", err, writes.Load()-before)
	}
}

// TestAzureSetMetadataMeanwhile has another writer change the metadata between reading and writing.
func TestAzureSetMetadataMeanwhile(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	if _, err := s.Create(t.Context(), "blob", nil, map[string]string{"n": "0"}); err != nil {
		t.Fatal(err)
	}
	writes := 0
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		if setsMetadata(r) {
			if writes++; writes <= 3 {
				if err := f.direct.SetMetadata(t.Context(), "blob", map[string]string{"other": strings.Repeat("x", writes)}); err != nil {
					t.Error(err)
				}
			}
		}
		answer(forward())
	})
	if err := s.SetMetadata(t.Context(), "blob", map[string]string{"n": "1"}); err != nil || writes != 4 {
		t.Errorf("SetMetadata = %v after %d writes", err, writes)
	}
	if got, err := f.direct.Metadata(t.Context(), "blob"); err != nil || !cmp.Equal(got, map[string]string{"n": "1"}) {
		t.Errorf("Metadata = %v, %v", got, err)
	}
	// Storage that never takes the condition as met is not asked for ever.
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		if setsMetadata(r) {
			answer(refused(http.StatusPreconditionFailed, "ConditionNotMet"))
			return
		}
		answer(forward())
	})
	if err := s.SetMetadata(t.Context(), "blob", nil); err == nil || !strings.Contains(err.Error(), "ConditionNotMet") {
		t.Errorf("SetMetadata = %v", err)
	}
}

// TestAzureImmutable has a policy or a legal hold refuse what changes a blob, which Azurite knows nothing
// of. A blob that is there is found all the same.
func TestAzureImmutable(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	if _, err := s.Create(t.Context(), "blob", nil, map[string]string{"n": "0"}); err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{"BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold"} {
		var requests atomic.Int32
		f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
			requests.Add(1)
			if r.Method == http.MethodPut {
				answer(refused(http.StatusConflict, code))
				return
			}
			answer(forward())
		})
		err := s.SetMetadata(t.Context(), "blob", map[string]string{"n": "1"})
		const want = `set metadata of blob "blob": the blob can't be changed: an immutability policy or a legal hold protects it`
		if !errors.Is(err, ErrImmutable) || err.Error() != want || requests.Load() != 2 {
			t.Errorf("%s: SetMetadata = %v after %d requests; want %s after 2", code, err, requests.Load(), want)
		}
		if there, err := s.Create(t.Context(), "blob", nil, nil); !errors.Is(err, ErrExists) || there["n"] != "0" {
			t.Errorf("%s: Create of what is there = %v, %v", code, there, err)
		}
		if err := s.SetMetadata(t.Context(), "blob", map[string]string{"n": "0"}); err != nil {
			t.Errorf("%s: SetMetadata that changes nothing = %v", code, err)
		}
		if err := s.SetMetadata(t.Context(), "none", nil); !errors.Is(err, ErrNotFound) || errors.Is(err, ErrImmutable) {
			t.Errorf("%s: SetMetadata of what is not there = %v", code, err)
		}
	}
}

// TestAzureSetMetadataGone has the blob removed between reading and writing.
func TestAzureSetMetadataGone(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	if _, err := s.Create(t.Context(), "blob", nil, nil); err != nil {
		t.Fatal(err)
	}
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		if setsMetadata(r) {
			if _, err := f.direct.Container().NewBlobClient("blob").Delete(t.Context(), nil); err != nil {
				t.Error(err)
			}
		}
		answer(forward())
	})
	if err := s.SetMetadata(t.Context(), "blob", map[string]string{"n": "1"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("SetMetadata = %v, want ErrNotFound", err)
	}
}

// TestAzureRefusedAtOnce has storage refuse a Put for good: that is final, and asked once.
func TestAzureRefusedAtOnce(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	var requests atomic.Int32
	f.set(func(_ *http.Request, _ forwardFunc, answer answerFunc) {
		requests.Add(1)
		answer(refused(http.StatusForbidden, "AuthenticationFailed"))
	})
	_, err := s.Create(t.Context(), "blob", nil, nil)
	const want = `create blob "blob" of 0 bytes: storage answered 403 Forbidden (AuthenticationFailed)`
	if err == nil || err.Error() != want || requests.Load() != 1 {
		t.Errorf("Create = %v after %d requests; want %s after 1", err, requests.Load(), want)
	}
}

func TestAzureOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for 5 seconds")
	}
	t.Parallel()
	s, f := newFaults(t)
	until := time.Now().Add(5 * time.Second)
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		if time.Now().After(until) {
			answer(forward())
		}
	})
	if _, err := s.Create(within(t, 30*time.Second), "blob", []byte("content"), nil); err != nil {
		t.Errorf("Create through an outage of 5 s: %v", err)
	}
	if _, err := f.direct.Metadata(t.Context(), "blob"); err != nil {
		t.Error(err)
	}
}

func TestAzureRetriesServerErrors(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	for _, code := range []int{408, 429, 500, 502, 503, 504} {
		first := true
		f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
			if first {
				first = false
				answer(status(code))
				return
			}
			answer(forward())
		})
		if _, err := s.Metadata(t.Context(), "none"); !errors.Is(err, ErrNotFound) || first {
			t.Errorf("after one answer of %d: %v, want another try and ErrNotFound", code, err)
		}
	}
}

func TestAzureDownBeyondDeadline(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	methods := map[string]func(ctx context.Context) error{
		"Create":   func(ctx context.Context) error { _, err := s.Create(ctx, "b", nil, nil); return err },
		"Metadata": func(ctx context.Context) error { _, err := s.Metadata(ctx, "b"); return err },
		"Open":     func(ctx context.Context) error { _, err := s.Open(ctx, "b"); return err },
		"SetMetadata": func(ctx context.Context) error {
			return s.SetMetadata(ctx, "b", nil)
		},
		"List": func(ctx context.Context) error {
			for _, err := range s.List(ctx, "") {
				return err
			}
			return nil
		},
	}
	for kind, meet := range map[string]meeting{
		"dropped": func(*http.Request, forwardFunc, answerFunc) {},
		"silent":  func(r *http.Request, _ forwardFunc, _ answerFunc) { hang(r) },
		"failing": func(_ *http.Request, _ forwardFunc, answer answerFunc) {
			answer(status(http.StatusServiceUnavailable))
		},
	} {
		f.set(meet)
		var wg sync.WaitGroup
		for method, call := range methods {
			wg.Go(func() {
				begin := time.Now()
				err := call(within(t, 1500*time.Millisecond))
				if took := time.Since(begin); took > 3*time.Second {
					t.Errorf("%s of %s storage came back after %v", method, kind, took)
				}
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "attempts") || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s of %s storage: %v; want one line on the attempts", method, kind, err)
				}
				if kind == "failing" && !strings.Contains(err.Error(), "503") {
					t.Errorf("%s of %s storage: %v; want its status", method, kind, err)
				}
			})
		}
		wg.Wait()
	}
}

func TestAzureDownloadBrokenOff(t *testing.T) {
	t.Parallel()
	s, f := newFaults(t)
	body := strings.Repeat("0123456789abcdef", 1<<16)
	if _, err := s.Create(t.Context(), "blob", []byte(body), nil); err != nil {
		t.Fatal(err)
	}
	var reads atomic.Int32
	f.set(func(r *http.Request, forward forwardFunc, answer answerFunc) {
		recorded := forward()
		if r.Method == http.MethodGet && reads.Add(1) == 1 {
			recorded.Body.Truncate(recorded.Body.Len() / 2) // less than Content-Length says
		}
		answer(recorded)
	})
	r, err := s.Open(t.Context(), "blob")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != body || reads.Load() < 2 {
		t.Errorf("read %d bytes in %d reads, %v; want %d in 2", len(got), reads.Load(), err, len(body))
	}
}

func TestAzureContentType(t *testing.T) {
	t.Parallel()
	s, _ := newFaults(t)
	if _, err := s.Create(t.Context(), "blob", nil, nil); err != nil {
		t.Fatal(err)
	}
	got, err := s.Container().NewBlobClient("blob").GetProperties(t.Context(), nil)
	if err != nil || *got.ContentType != "text/plain; charset=utf-8" {
		t.Errorf("content type %q, %v", *got.ContentType, err)
	}
}

// TestAzureSAS uses a SAS for blobs alone, as is handed to workers: in both forms.
func TestAzureSAS(t *testing.T) {
	t.Parallel()
	connection := azuritetest.Run(t)
	name := azuritetest.Container(t)
	if _, err := OpenAzure(t.Context(), Options{Location: connection, Container: name, Create: true}); err != nil {
		t.Fatal(err)
	}
	client, err := service.NewClientFromConnectionString(connection, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := client.NewContainerClient(name).GetSASURL(
		sas.ContainerPermissions{Read: true, Create: true, List: true}, time.Now().Add(time.Hour), &container.GetSASURLOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, query, _ := strings.Cut(signed, "?")
	endpoint := setting(connection, "BlobEndpoint")
	for form, location := range map[string]string{
		"connection string": "BlobEndpoint=" + endpoint + ";SharedAccessSignature=" + query,
		"service URI":       endpoint + "?" + query,
	} {
		s, err := OpenAzure(t.Context(), Options{Location: location, Container: name})
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		if _, err := s.Create(t.Context(), form, []byte("x"), nil); err != nil {
			t.Errorf("%s: %v", form, err)
		}
		if _, err := s.Create(t.Context(), form, []byte("x"), nil); !errors.Is(err, ErrExists) {
			t.Errorf("%s: second Create = %v, want ErrExists", form, err)
		}
	}
}

// TestAzureErrorsHoldNoSecret provokes errors of every kind with secrets that must not show up.
func TestAzureErrorsHoldNoSecret(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := "http://" + closed.Addr().String() + "/account"
	closed.Close()
	const secret = "c2VjcmV0"
	locations := []string{
		"", "x", secret, "AccountKey=" + secret, "AccountName=a;AccountKey=" + secret + "!", "AccountName=a",
		"BlobEndpoint=" + down + ";AccountName=account;AccountKey=" + secret,
		"BlobEndpoint=" + down + ";SharedAccessSignature=sv=2024-01-01&sig=" + secret,
		"BlobEndpoint=http://%zz/" + secret + ";SharedAccessSignature=sig=" + secret,
		down, down + "?sv=2024-01-01&sig=" + secret, "http://%zz/?sig=" + secret, "http://[::1/?sig=" + secret,
	}
	for _, location := range locations {
		refuses(t, location, secret)
	}
	if _, err := OpenAzure(t.Context(), Options{Location: "UseDevelopmentStorage=true"}); err == nil || !strings.Contains(err.Error(), "PERSISTOR_CONTAINER_NAME") {
		t.Errorf("Open without a container's name: %v, want the setting named", err)
	}
}

// TestAzureRefusalsHoldNoSecret does so where storage itself refuses: a wrong key, a wrong SAS.
func TestAzureRefusalsHoldNoSecret(t *testing.T) {
	t.Parallel()
	connection := azuritetest.Run(t)
	const secret = "c2VjcmV0"
	refuses(t, strings.Replace(connection, setting(connection, "AccountKey"), secret, 1), secret)
	refuses(t, setting(connection, "BlobEndpoint")+"?sv=2024-01-01&sp=r&sr=c&se=2099-01-01&sig="+secret, secret)
}

// refuses fails the test unless a location is refused with one short line that does not show secret.
func refuses(t *testing.T, location, secret string) {
	t.Helper()
	_, err := OpenAzure(within(t, time.Second), Options{Location: location, Container: "container"})
	if err == nil {
		t.Errorf("Open of %q was not refused", location)
	} else if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 800 {
		t.Errorf("Open of %q: error shows a secret or is not one short line: %v", location, err)
	}
}

func TestAzureLocations(t *testing.T) {
	for location, want := range map[string]string{
		"UseDevelopmentStorage=true":                                         "http://127.0.0.1:10000/devstoreaccount1/c",
		" usedevelopmentstorage=TRUE; ":                                      "http://127.0.0.1:10000/devstoreaccount1/c",
		"AccountName=a;AccountKey=c2VjcmV0":                                  "https://a.blob.core.windows.net/c",
		"BlobEndpoint=https://b.example/x;AccountName=a;AccountKey=c2VjcmV0": "https://b.example/x/c",
		"https://a.blob.core.windows.net":                                    "https://a.blob.core.windows.net/c",
		"https://a.blob.core.windows.net/":                                   "https://a.blob.core.windows.net/c",
	} {
		client, err := newClient(Options{Location: location, Container: "c", Credential: noCredential{}})
		if err != nil {
			t.Errorf("%q: %v", location, err)
		} else if client.URL() != want {
			t.Errorf("%q leads to %s, want %s", location, client.URL(), want)
		}
	}
}

// TestAzureCredentialErrorIsOneLine has the credential fail as azidentity's do, at length.
func TestAzureCredentialErrorIsOneLine(t *testing.T) {
	_, err := OpenAzure(within(t, time.Second), Options{Location: "https://127.0.0.1:1/", Container: "c", Credential: noCredential{}})
	if err == nil || !strings.Contains(err.Error(), "no token") || strings.Contains(err.Error(), "\n") || len(err.Error()) > 800 {
		t.Errorf("Open = %v, want one line", err)
	}
}

func TestOneLineCutsQueries(t *testing.T) {
	err := oneLine(errors.New("parse \"https://a.example/c?sv=1&sig=c2VjcmV0\":\n\tbad"))
	if want := `parse "https://a.example/c?...": bad`; err.Error() != want {
		t.Errorf("got %s, want %s", err, want)
	}
}

type noCredential struct{}

func (noCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, errors.New("no token:\n" + strings.Repeat("\ttried this\n", 1000))
}
