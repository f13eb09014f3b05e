package emulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// sign makes a token as the clients do.
func sign(resource, keyName, key string, expires time.Time) string {
	sr := strings.ToLower(url.QueryEscape(resource))
	return signAs(sr, fmt.Sprint(expires.Unix()), keyName, key)
}

func signAs(sr, se, keyName, key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(sr + "\n" + se))
	sig := url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%s&skn=%s", sr, sig, se, keyName)
}

var (
	sasNow  = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	sasKeys = keyring{"root": "c2VjcmV0", "other": "b3RoZXI="}
)

func TestVerifyToken(t *testing.T) {
	in := sasNow.Add(time.Hour)
	good := sign("amqp://127.0.0.1:5672/hub", "root", "c2VjcmV0", in)
	const audience = "amqp://127.0.0.1:5672/hub"
	for _, c := range []struct {
		name, token, audience string
		want                  string // the description's beginning, "" when the token is good
	}{
		{"signed by a client", good, audience, ""},
		{"signed with the other key", sign(audience, "other", "b3RoZXI=", in), audience, ""},
		{"for the whole namespace", sign("127.0.0.1:5672", "root", "c2VjcmV0", in), audience, ""},
		{"fields in another order", reorder(good), audience, ""},
		// A vector that a client's own tests hold; its key is the word "key".
		{"known vector", "SharedAccessSignature sr=audience&sig=8UM0iIfFCfeBSqxSdBMW8pUbhAm7mnjSUaIZTZx8V0g%3D&se=1578099723&skn=keyName", "audience", "ExpiredToken: "},

		{"key of another name", sign(audience, "root", "b3RoZXI=", in), audience, "InvalidSignature: The token has an invalid signature."},
		{"unknown key name", sign(audience, "nobody", "c2VjcmV0", in), audience, "InvalidSignature: The token has an invalid signature."},
		{"unknown key name, empty key", sign(audience, "nobody", "", in), audience, "InvalidSignature: The token has an invalid signature."},
		{"expiry changed after signing", strings.Replace(good, fmt.Sprint(in.Unix()), fmt.Sprint(in.Unix()+1), 1), audience, "InvalidSignature: "},
		{"expired and badly signed", sign(audience, "root", "wrong", sasNow.Add(-time.Hour)), audience, "InvalidSignature: "},
		{"expired", sign(audience, "root", "c2VjcmV0", sasNow.Add(-time.Hour)), audience, "ExpiredToken: The token is expired. Expiration time: '2024-02-29 11:00:00Z'"},
		{"expiring at this second", sign(audience, "root", "c2VjcmV0", sasNow), audience, "ExpiredToken: "},
		{"another hub", good, audience + "2", "InvalidAudience: "},
		{"the namespace for a hub's token", good, "amqp://127.0.0.1:5672/", "InvalidAudience: "},
		{"expiry not a number", signAs("h", "soon", "root", "c2VjcmV0"), "h", "MalformedToken: "},
		{"expiry negative", signAs("h", "-1", "root", "c2VjcmV0"), "h", "MalformedToken: "},
		{"expiry beyond the year 9999", signAs("h", "253402300800", "root", "c2VjcmV0"), "h", "MalformedToken: "},
		{"resource with a broken escape", signAs("h%zz", fmt.Sprint(in.Unix()), "root", "c2VjcmV0"), "h", "MalformedToken: "},

		{"empty", "", audience, "MalformedToken: "},
		{"a bearer token", "Bearer abc", audience, "MalformedToken: "},
		{"no field", "SharedAccessSignature ", audience, "MalformedToken: "},
		{"no key name", good[:strings.Index(good, "&skn=")], audience, "MalformedToken: "},
		{"empty key name", good[:strings.Index(good, "&skn=")] + "&skn=", audience, "MalformedToken: "},
		{"a field twice", good + "&skn=root", audience, "MalformedToken: "},
		{"unknown field", good + "&x=1", audience, "MalformedToken: "},
		{"signature not base64", "SharedAccessSignature sr=h&sig=%25%25&se=1&skn=root", "h", "MalformedToken: "},
		{"too long", "SharedAccessSignature sr=" + strings.Repeat("a", maxTokenBytes), audience, "MalformedToken: "},
	} {
		keys := sasKeys
		if c.name == "known vector" {
			keys = keyring{"keyName": "key"}
		}
		expires, err := keys.verify(c.token, c.audience, sasNow)
		if c.want == "" {
			if err != nil || !expires.Equal(in) {
				t.Errorf("%s: verify = %v, %v; want %v, nil", c.name, expires, err, in)
			}
			continue
		}
		var refused *claimError
		if !errors.As(err, &refused) || refused.status != 401 || !strings.HasPrefix(refused.description, c.want) {
			t.Errorf("%s: verify error = %v, want 401 and %q", c.name, err, c.want)
		}
		for _, key := range keys {
			if err != nil && strings.Contains(err.Error(), key) && key != "key" {
				t.Errorf("%s: the error %q tells a key", c.name, err)
			}
		}
	}
}

// reorder puts a token's fields the other way round.
func reorder(token string) string {
	fields := strings.Split(strings.TrimPrefix(token, "SharedAccessSignature "), "&")
	for i, j := 0, len(fields)-1; i < j; i, j = i+1, j-1 {
		fields[i], fields[j] = fields[j], fields[i]
	}
	return "SharedAccessSignature " + strings.Join(fields, "&")
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		resource, audience string
		want               bool
	}{
		{"sb://h/hub", "amqp://h:5672/hub", true},
		{"https://H/HUB/", "amqps://h/hub", true},
		{"h", "amqp://h:5672/hub/ConsumerGroups/$Default/Partitions/0", true},
		{"h:5672", "amqp://h/", true},
		{"http://h/hub", "sb://h/hub/ConsumerGroups/$Default/Partitions/0", true},
		{"amqp://h/hub/publishers/p", "amqp://h/hub/Publishers/p", true},
		{"[::1]:5672", "amqp://[::1]/hub", true},
		{"[::1]", "amqp://[::1]:5672/hub", true},
		{"h/hub", "h/hub2", false},
		{"h/hub2", "h/hub", false},
		{"h/hub/x", "h/hub", false},
		{"h2", "h", false},
		{"ftp://h", "h", false},
		{"", "", false},
		{"/hub", "/hub", false},
	} {
		if got := covers(c.resource, c.audience); got != c.want {
			t.Errorf("covers(%q, %q) = %v, want %v", c.resource, c.audience, got, c.want)
		}
	}
}
