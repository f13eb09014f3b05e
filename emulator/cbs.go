package emulator

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

const (
	maxClaims   = 10_000 // audiences that one connection may hold tokens for
	maxAudience = 1024   // bytes of an audience
)

// putToken answers put-token, the one operation of $cbs: a client puts a token for an audience, and may then attach
// links to what the audience names and all below it. A second token for an audience takes the first one's place. The
// expiry that counts is the one that the token is signed with, whatever the request says.
//
// Left out: the service allows one pair of links to $cbs on a connection, here there may be more; and JSON web tokens,
// which are taken unread with [Options.AllowAnyToken] and else refused.
func (c *connection) putToken(r *request) *reply {
	if operation := r.properties.String("operation"); operation != "put-token" {
		return refuse(http.StatusBadRequest, "amqp:not-implemented", "$cbs has the operation put-token, not "+quoteShort(operation))
	}
	audience := r.properties.String("name")
	if c.e.faults.take(&c.e.faults.tokens) {
		return refuse(http.StatusUnauthorized, "amqp:unauthorized-access", "InvalidSignature: The token has an invalid signature.")
	}
	token, _ := r.body.(string)
	granted, err := c.e.verifyToken(r.properties.String("type"), token, audience)
	if err != nil {
		c.e.log.Debug("token refused", "connection", c.id, "error", err)
		refused, _ := errors.AsType[*claimError](err)
		return refuse(refused.status, "amqp:unauthorized-access", refused.description)
	}
	_, path, _ := splitAudience(audience)
	if len(path) > maxAudience {
		return refuse(http.StatusBadRequest, "amqp:invalid-field", "the audience is too long")
	}
	if len(c.claims) >= maxClaims {
		return refuse(http.StatusForbidden, "amqp:resource-limit-exceeded", "the connection holds too many tokens")
	}
	c.claims[path] = granted
	c.verified = true
	return &reply{status: http.StatusAccepted, description: "Accepted"}
}

// verifyToken returns the claim that a token is good for. Its errors are all *claimError.
func (e *Emulator) verifyToken(kind, token, audience string) (claim, error) {
	if e.options.AllowAnyToken {
		return claim{send: true, listen: true, expires: time.Unix(maxUnixSeconds, 0)}, nil
	}
	if strings.EqualFold(kind, "jwt") {
		return claim{}, refuseToken("InvalidToken: JSON web tokens are not supported by the emulator; connect with a shared access key.")
	}
	expires, err := e.keys.verify(token, audience, e.now())
	if err != nil {
		return claim{}, err
	}
	signed, err := parseSAS(token)
	if err != nil {
		return claim{}, err
	}
	key := e.rights[signed.keyName]
	return claim{send: key.Send, listen: key.Listen, expires: expires}, nil
}

func refuse(status int, condition, description string) *reply {
	return &reply{status: int32(status), condition: condition, description: description}
}
