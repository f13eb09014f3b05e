package emulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxTokenBytes bounds a SAS token. A token that a service of this kind issues has a few hundred bytes.
const maxTokenBytes = 4096

// keyring holds the shared access keys that a token may be signed with: key by key name. The bytes of
// a key are its text as it stands in a connection string: it is base64 but never decoded.
type keyring map[string]string

// claimError is why a put-token request is refused. Its text is the status description that goes back
// to the client, worded as the service words it, since clients tell errors apart by the word before the
// colon. It never holds a key or a signature.
type claimError struct {
	status      int // status-code of the reply, always 401 for a SAS token
	description string
}

func (e *claimError) Error() string {
	return fmt.Sprintf("check token: status %d: %s", e.status, e.description)
}

func refuseToken(format string, args ...any) error {
	return &claimError{status: http.StatusUnauthorized, description: fmt.Sprintf(format, args...)}
}

// verify checks a SAS token
//
//	SharedAccessSignature sr=<resource>&sig=<signature>&se=<expiry>&skn=<key name>
//
// for an audience, which is the name that the put-token request asked for, and returns when the token
// expires, to the second. The signature is the base64 of HMAC-SHA256 over the resource as the token
// spells it, still URL-encoded, a newline, and the expiry in Unix seconds. The order of the checks is
// form, key, signature, expiry, audience: an unsigned token learns nothing. Every error is a *claimError.
//
// Source: "Authenticate access to Event Hubs resources using shared access signatures" in the service's
// documentation; the descriptions are as clients have reported them.
func (k keyring) verify(token, audience string, now time.Time) (expires time.Time, err error) {
	t, err := parseSAS(token)
	if err != nil {
		return time.Time{}, err
	}
	key, known := k[t.keyName]
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(t.resource + "\n" + t.expiry))
	// The comparison is made for an unknown key name too, so that time does not tell which names exist.
	if !hmac.Equal(t.signature, mac.Sum(nil)) || !known {
		return time.Time{}, refuseToken("InvalidSignature: The token has an invalid signature.")
	}
	seconds, err := strconv.ParseInt(t.expiry, 10, 64)
	if err != nil || seconds < 0 || seconds > maxUnixSeconds {
		return time.Time{}, refuseToken("MalformedToken: The token's expiry 'se' must be Unix seconds, got %s.", quoteShort(t.expiry))
	}
	expires = time.Unix(seconds, 0).UTC()
	if !now.Before(expires) {
		return time.Time{}, refuseToken("ExpiredToken: The token is expired. Expiration time: '%s'", expires.Format("2006-01-02 15:04:05Z"))
	}
	resource, err := url.QueryUnescape(t.resource)
	if err != nil {
		return time.Time{}, refuseToken("MalformedToken: The token's resource 'sr' is not URL-encoded.")
	}
	if !covers(resource, audience) {
		return time.Time{}, refuseToken("InvalidAudience: The token's resource %s does not cover the audience %s.", quoteShort(resource), quoteShort(audience))
	}
	return expires, nil
}

// maxUnixSeconds is the end of the year 9999, the last that the service's own time type can hold.
const maxUnixSeconds = 253402300799

// sasToken is a token taken apart. The resource and the expiry stay as the token spells them, because
// the signature is over their spelling.
type sasToken struct {
	resource, expiry, keyName string
	signature                 []byte
}

func parseSAS(token string) (sasToken, error) {
	if len(token) > maxTokenBytes {
		return sasToken{}, refuseToken("MalformedToken: The token has %d bytes, more than %d.", len(token), maxTokenBytes)
	}
	fields, ok := strings.CutPrefix(token, "SharedAccessSignature ")
	if !ok {
		return sasToken{}, refuseToken("MalformedToken: The token must begin with 'SharedAccessSignature '.")
	}
	var t sasToken
	var signature string
	for field := range strings.SplitSeq(fields, "&") {
		name, value, _ := strings.Cut(field, "=")
		var into *string
		switch name {
		case "sr":
			into = &t.resource
		case "sig":
			into = &signature
		case "se":
			into = &t.expiry
		case "skn":
			into = &t.keyName
		default:
			return sasToken{}, refuseToken("MalformedToken: The token has an unknown field; sr, sig, se and skn are known.")
		}
		if *into != "" {
			return sasToken{}, refuseToken("MalformedToken: The token has the field '%s' twice.", name)
		}
		if value == "" {
			return sasToken{}, refuseToken("MalformedToken: The token's field '%s' is empty.", name)
		}
		*into = value
	}
	if t.resource == "" || signature == "" || t.expiry == "" || t.keyName == "" {
		return sasToken{}, refuseToken("MalformedToken: The token must have the fields sr, sig, se and skn.")
	}
	var err error
	if t.keyName, err = url.QueryUnescape(t.keyName); err != nil {
		return sasToken{}, refuseToken("MalformedToken: The token's key name 'skn' is not URL-encoded.")
	}
	if signature, err = url.QueryUnescape(signature); err == nil {
		t.signature, err = base64.StdEncoding.DecodeString(signature)
	}
	if err != nil {
		return sasToken{}, refuseToken("MalformedToken: The token's signature 'sig' is not URL-encoded base64.")
	}
	return t, nil
}

// covers reports whether a token for resource may be used for audience: they name the same host, and
// the resource's path is the audience's or one above it. Schemes, ports and case make no difference:
// clients sign sb://host/hub for amqp://host:5672/hub, and a token made by hand often has the host alone.
func covers(resource, audience string) bool {
	resourceHost, resourcePath, ok := splitAudience(resource)
	audienceHost, audiencePath, ok2 := splitAudience(audience)
	if !ok || !ok2 || resourceHost != audienceHost {
		return false
	}
	below, ok := strings.CutPrefix(audiencePath, resourcePath)
	return ok && (below == "" || below[0] == '/' || resourcePath == "")
}

// splitAudience splits [scheme://]host[:port][/path] into host and path, lower-cased, the path without
// slashes at either end. It is false when there is no host or the scheme is not one that the service has.
func splitAudience(s string) (host, path string, ok bool) {
	s = strings.ToLower(s)
	if scheme, rest, found := strings.Cut(s, "://"); found {
		switch scheme {
		case "amqp", "amqps", "sb", "http", "https":
			s = rest
		default:
			return "", "", false
		}
	}
	host, path, _ = strings.Cut(s, "/")
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") { // [::1] has no port
		host = host[:i]
	}
	return host, strings.Trim(path, "/"), host != ""
}

// quoteShort quotes s for an error text, cut when it is long, so that a reply stays short.
func quoteShort(s string) string {
	const most = 200
	if len(s) > most {
		return fmt.Sprintf("%q (cut from %d bytes)", s[:most], len(s))
	}
	return strconv.Quote(s)
}
