package emulator

import (
	"fmt"
	"strings"
	"time"

	"persistor/emulator/internal/wire"
)

// claim is what a token allows on the path that it was put for, and below that.
type claim struct {
	send, listen bool
	expires      time.Time
}

// right is what a link needs a claim for.
type right uint8

const (
	anyRight right = iota
	rightSend
	rightListen
)

func (r right) String() string { return [...]string{"Manage,Send,Listen", "Send", "Listen"}[r] }

// claimNeed is a right to a path, lower-cased, that a link needs for as long as it is attached.
type claimNeed struct {
	path  string
	right right
}

// authorize returns nil if a token that has not expired gives the right. The lock is held.
func (c *connection) authorize(need claimNeed) *wire.Error {
	now := c.e.now()
	for path, claim := range c.claims {
		if path != "" && path != need.path && !strings.HasPrefix(need.path, path+"/") {
			continue
		}
		if !now.Before(claim.expires) {
			continue
		}
		if need.right == anyRight || need.right == rightSend && claim.send || need.right == rightListen && claim.listen {
			return nil
		}
	}
	return &wire.Error{Condition: wire.ConditionUnauthorizedAccess, Description: c.e.describe(need.path,
		"Unauthorized access. '%s' claim(s) are required to perform this operation. Resource: 'sb://%s/%s'.", need.right, c.e.Address(), need.path)}
}

// describe completes the text of an error as the service does, with what its support would look it up by. What came
// from the client in it is cut when it is long.
func (e *Emulator) describe(entity, format string, args ...any) string {
	return fmt.Sprintf("%s TrackingId:%s, SystemTracker:%s, Timestamp:%s",
		cut(fmt.Sprintf(format, args...), 1000), trackingID(0), cut(entity, 200), e.now().UTC().Format("2006-01-02T15:04:05"))
}

// cut shortens a text to at most most bytes.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-3], "") + "..."
}

// trackingID names a connection's container, 32 hexadecimal digits and a number as the service has them.
func trackingID(connection int64) string { return fmt.Sprintf("%032x_G%d", 0xe4a7, connection) }
