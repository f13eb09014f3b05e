package emulator

import (
	"encoding/xml"
	"math"
	"strconv"
	"strings"
	"time"
)

// The documents of the administration interface, with the elements in the order that the service's schema gives them.
type (
	atomEntry struct {
		XMLName xml.Name    `xml:"http://www.w3.org/2005/Atom entry"`
		ID      string      `xml:"id"`
		Title   atomText    `xml:"title"`
		Updated string      `xml:"updated"`
		Author  string      `xml:"author>name"`
		Link    atomLink    `xml:"link"`
		Content atomContent `xml:"content"`
	}
	atomText struct {
		Type string `xml:"type,attr"`
		Text string `xml:",chardata"`
	}
	atomLink struct {
		Rel  string `xml:"rel,attr"`
		HREF string `xml:"href,attr"`
	}
	atomContent struct {
		Type        string `xml:"type,attr"`
		Description any
	}
	emptyFeed struct {
		XMLName xml.Name `xml:"http://www.w3.org/2005/Atom feed"`
		Title   string   `xml:"title"`
		ID      string   `xml:"id"`
		Updated string   `xml:"updated"`
	}
	adminError struct {
		XMLName xml.Name `xml:"Error"`
		Code    int      `xml:"Code"`
		Detail  string   `xml:"Detail"`
	}

	namespaceInfo struct {
		XMLName       xml.Name `xml:"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect NamespaceInfo"`
		CreatedTime   string
		MessagingSKU  string
		ModifiedTime  string
		Name          string
		NamespaceType string
	}
	queueDescription struct {
		XMLName                             xml.Name `xml:"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect QueueDescription"`
		LockDuration                        string
		MaxSizeInMegabytes                  int64
		RequiresDuplicateDetection          bool
		RequiresSession                     bool
		DefaultMessageTimeToLive            string
		DeadLetteringOnMessageExpiration    bool
		DuplicateDetectionHistoryTimeWindow string
		MaxDeliveryCount                    int
		EnableBatchedOperations             bool
		SizeInBytes                         int64
		MessageCount                        int64
		IsAnonymousAccessible               bool
		Status                              string
		CreatedAt                           string
		UpdatedAt                           string
		AccessedAt                          string
		SupportOrdering                     bool
		CountDetails                        countDetails
		AutoDeleteOnIdle                    string
		EnablePartitioning                  bool
		EntityAvailabilityStatus            string
		EnableExpress                       bool
		MaxMessageSizeInKilobytes           int
	}
	topicDescription struct {
		XMLName                             xml.Name `xml:"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect TopicDescription"`
		DefaultMessageTimeToLive            string
		MaxSizeInMegabytes                  int64
		RequiresDuplicateDetection          bool
		DuplicateDetectionHistoryTimeWindow string
		EnableBatchedOperations             bool
		SizeInBytes                         int64
		FilteringMessagesBeforePublishing   bool
		IsAnonymousAccessible               bool
		Status                              string
		CreatedAt                           string
		UpdatedAt                           string
		AccessedAt                          string
		SupportOrdering                     bool
		CountDetails                        countDetails
		SubscriptionCount                   int
		SQLFilterCount                      int `xml:"SqlFilterCount"`
		CorrelationFilterCount              int
		AutoDeleteOnIdle                    string
		EnablePartitioning                  bool
		EntityAvailabilityStatus            string
		EnableExpress                       bool
		MaxMessageSizeInKilobytes           int
	}
	subscriptionDescription struct {
		XMLName                                   xml.Name `xml:"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect SubscriptionDescription"`
		LockDuration                              string
		RequiresSession                           bool
		DefaultMessageTimeToLive                  string
		DeadLetteringOnMessageExpiration          bool
		DeadLetteringOnFilterEvaluationExceptions bool
		MessageCount                              int64
		MaxDeliveryCount                          int
		EnableBatchedOperations                   bool
		Status                                    string
		CreatedAt                                 string
		UpdatedAt                                 string
		AccessedAt                                string
		CountDetails                              countDetails
		AutoDeleteOnIdle                          string
		EntityAvailabilityStatus                  string
	}
	countDetails struct {
		ActiveMessageCount             int32 `xml:"http://schemas.microsoft.com/netservices/2011/06/servicebus ActiveMessageCount"`
		DeadLetterMessageCount         int32 `xml:"http://schemas.microsoft.com/netservices/2011/06/servicebus DeadLetterMessageCount"`
		ScheduledMessageCount          int32 `xml:"http://schemas.microsoft.com/netservices/2011/06/servicebus ScheduledMessageCount"`
		TransferMessageCount           int32 `xml:"http://schemas.microsoft.com/netservices/2011/06/servicebus TransferMessageCount"`
		TransferDeadLetterMessageCount int32 `xml:"http://schemas.microsoft.com/netservices/2011/06/servicebus TransferDeadLetterMessageCount"`
	}
)

// unlimitedMegabytes is the size of an entity that has no end here, the largest that the service sells.
const unlimitedMegabytes = 81920

func (h *adminHandler) namespace() namespaceInfo {
	started := atomTime(h.e.started)
	return namespaceInfo{
		CreatedTime: started, MessagingSKU: "Standard", ModifiedTime: started, Name: h.e.Address(), NamespaceType: "Messaging",
	}
}

func (h *adminHandler) queue(q *queue) queueDescription {
	started, c := atomTime(h.e.started), q.count()
	return queueDescription{
		LockDuration: isoDuration(q.LockDuration), MaxSizeInMegabytes: megabytes(q.MaxSize),
		RequiresDuplicateDetection: q.DuplicateDetection > 0, RequiresSession: q.Sessions,
		DefaultMessageTimeToLive: endless(q.TTL), DeadLetteringOnMessageExpiration: q.DeadLetterOnExpiration,
		DuplicateDetectionHistoryTimeWindow: duplicateWindow(q.DuplicateDetection), MaxDeliveryCount: q.MaxDeliveryCount,
		EnableBatchedOperations: true, SizeInBytes: c.bytes, MessageCount: c.total, Status: c.status,
		CreatedAt: started, UpdatedAt: started, AccessedAt: started, SupportOrdering: true, CountDetails: c.details,
		AutoDeleteOnIdle: endless(0), EntityAvailabilityStatus: "Available", MaxMessageSizeInKilobytes: q.MaxMessageSize / 1024,
	}
}

func (h *adminHandler) topic(q *queue) topicDescription {
	started, c := atomTime(h.e.started), q.count()
	description := topicDescription{
		DefaultMessageTimeToLive: endless(0), MaxSizeInMegabytes: megabytes(0), RequiresDuplicateDetection: q.DuplicateDetection > 0,
		DuplicateDetectionHistoryTimeWindow: duplicateWindow(q.DuplicateDetection), EnableBatchedOperations: true, SizeInBytes: c.bytes,
		Status: c.status, CreatedAt: started, UpdatedAt: started, AccessedAt: started, SupportOrdering: true, CountDetails: c.details,
		SubscriptionCount: len(q.topic.subscriptions), AutoDeleteOnIdle: endless(0), EntityAvailabilityStatus: "Available",
		MaxMessageSizeInKilobytes: q.MaxMessageSize / 1024,
	}
	for _, s := range q.topic.subscriptions {
		description.SizeInBytes += s.count().bytes
		for _, rule := range s.rules.all() {
			if _, ok := rule.Filter.(CorrelationFilter); ok {
				description.CorrelationFilterCount++
			} else {
				description.SQLFilterCount++ // the service counts those that are always true or false too
			}
		}
	}
	return description
}

func (h *adminHandler) subscription(q *queue) subscriptionDescription {
	started, c := atomTime(h.e.started), q.count()
	return subscriptionDescription{
		LockDuration: isoDuration(q.LockDuration), RequiresSession: q.Sessions, DefaultMessageTimeToLive: endless(q.TTL),
		DeadLetteringOnMessageExpiration: q.DeadLetterOnExpiration, MessageCount: c.total, MaxDeliveryCount: q.MaxDeliveryCount,
		EnableBatchedOperations: true, Status: c.status, CreatedAt: started, UpdatedAt: started, AccessedAt: started, CountDetails: c.details,
		AutoDeleteOnIdle: endless(0), EntityAvailabilityStatus: "Available",
	}
}

// entityCount is how much an entity and its dead-letter queue hold. Messages that are locked or deferred count as active.
type entityCount struct {
	details      countDetails
	total, bytes int64
	status       string
}

func (q *queue) count() entityCount {
	info, disabled := q.look()
	active := info.Active + info.Locked + info.Deferred
	c := entityCount{
		details: countDetails{ActiveMessageCount: clamp(active), ScheduledMessageCount: clamp(info.Scheduled)},
		total:   active + info.Scheduled, bytes: info.Bytes, status: "Active",
	}
	if disabled {
		c.status = "Disabled"
	}
	if q.deadLetter != nil {
		dead, _ := q.deadLetter.look()
		messages := dead.Active + dead.Locked + dead.Deferred
		c.details.DeadLetterMessageCount = clamp(messages)
		c.total += messages
		c.bytes += dead.Bytes
	}
	return c
}

func (q *queue) look() (info QueueInfo, disabled bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sweep(q.now())
	return q.info, q.disabled
}

// clamp makes a count one that clients can read.
func clamp(n int64) int32 { return int32(min(n, math.MaxInt32)) }

func megabytes(size int64) int64 {
	if size == 0 {
		return unlimitedMegabytes
	}
	return max((size+1<<20-1)>>20, 1)
}

func atomTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// endless writes a time that is without an end if it is 0, which is the longest that the service knows.
func endless(d time.Duration) string {
	if d == 0 {
		return "P10675199DT2H48M5.4775807S"
	}
	return isoDuration(d)
}

// duplicateWindow writes for how long duplicates are detected; where they are not, the service has its default.
func duplicateWindow(d time.Duration) string {
	if d == 0 {
		return "PT10M"
	}
	return isoDuration(d)
}

// isoDuration writes a duration as ISO 8601 does, such as P1DT2H3M4.5S.
func isoDuration(d time.Duration) string {
	var b strings.Builder
	b.WriteString("P")
	if days := d / (24 * time.Hour); days > 0 {
		b.WriteString(strconv.FormatInt(int64(days), 10) + "D")
		d -= days * 24 * time.Hour
	}
	if d == 0 && b.Len() > 1 {
		return b.String()
	}
	b.WriteString("T")
	if hours := d / time.Hour; hours > 0 {
		b.WriteString(strconv.FormatInt(int64(hours), 10) + "H")
		d -= hours * time.Hour
	}
	if minutes := d / time.Minute; minutes > 0 {
		b.WriteString(strconv.FormatInt(int64(minutes), 10) + "M")
		d -= minutes * time.Minute
	}
	if d > 0 || strings.HasSuffix(b.String(), "T") {
		b.WriteString(strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "S")
	}
	return b.String()
}
