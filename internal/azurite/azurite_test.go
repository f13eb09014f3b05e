package azurite_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"persistor/internal/azurite"
)

// TestMain lets the test binary be run as a process that starts Azurite and is then killed.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_AS_OWNER") != "1" {
		os.Exit(m.Run())
	}
	s, err := azurite.Start(context.Background(), "")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.ConnectionString())
	<-time.After(time.Hour) // or the runtime takes it for a deadlock
}

func start(t *testing.T, dir string) *azurite.Server {
	t.Helper()
	s, err := azurite.Start(t.Context(), dir)
	if errors.Is(err, azurite.ErrNotInstalled) && os.Getenv("AZURITE_REQUIRED") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestServesBlobsAndQueues(t *testing.T) {
	s := start(t, t.TempDir())
	for _, service := range []string{"Blob", "Queue"} {
		response, err := http.Get("http://" + address(t, s.ConnectionString(), service))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if server := response.Header.Get("Server"); !strings.HasPrefix(server, "Azurite-"+service+"/") {
			t.Errorf("%s endpoint is served by %q", service, server)
		}
	}
}

func TestCloseEndsIt(t *testing.T) {
	s := start(t, "")
	endpoint := address(t, s.ConnectionString(), "Blob")
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if c, err := net.Dial("tcp", endpoint); err == nil {
			c.Close()
			t.Error("Azurite listens after Close")
		}
	}
}

func TestEndsWithItsOwner(t *testing.T) {
	start(t, "").Close() // skips where Azurite is not installed
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), "TEST_AS_OWNER=1")
	stdout, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	owner.Process.Kill()
	owner.Wait()
	if err != nil {
		t.Fatalf("the owner did not start Azurite: %v", err)
	}
	endpoint := address(t, line, "Blob")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", endpoint)
		if err != nil {
			return
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("Azurite outlived the process that started it")
		}
	}
}

func TestStartFailsWithReason(t *testing.T) {
	start(t, "").Close() // skips where Azurite is not installed
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := azurite.Start(t.Context(), file)
	if err == nil || !strings.Contains(err.Error(), "EEXIST") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Start in a file: %v, want one line with Azurite's reason", err)
	}
}

func TestNotInstalled(t *testing.T) {
	t.Setenv("AZURITE_HOME", t.TempDir())
	_, err := azurite.Start(t.Context(), "")
	if !errors.Is(err, azurite.ErrNotInstalled) || !strings.Contains(err.Error(), "make azurite") {
		t.Errorf("Start = %v, want ErrNotInstalled that says what to do", err)
	}
	t.Setenv("AZURITE_HOME", "")
	t.Chdir(t.TempDir())
	if _, err := azurite.Find(); !errors.Is(err, azurite.ErrNotInstalled) {
		t.Errorf("Find outside of a module = %v, want ErrNotInstalled", err)
	}
}

// TestLockNamesNoRegistry keeps the lock file usable with whatever registry npm is set to.
func TestLockNamesNoRegistry(t *testing.T) {
	lock, err := os.ReadFile("npm/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if found := regexp.MustCompile(`"resolved": .*`).Find(lock); found != nil {
		t.Errorf("package-lock.json names where a package came from: %s", found)
	}
}

// address returns host and port of a service out of a connection string.
func address(t *testing.T, connection, service string) string {
	t.Helper()
	for part := range strings.SplitSeq(connection, ";") {
		if endpoint, ok := strings.CutPrefix(part, service+"Endpoint="); ok {
			u, err := url.Parse(endpoint)
			if err != nil {
				t.Fatal(err)
			}
			return u.Host
		}
	}
	t.Fatalf("no %sEndpoint in %q", service, connection)
	return ""
}
