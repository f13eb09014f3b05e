package emulator

import (
	"net/http"
	"strings"
	"time"

	"persistor/emulator/internal/wire"
)

// manage answers READ, the one operation of $management: the properties of a hub or of a partition. The client must
// hold a token for the hub, or for the hub's own $management, or send one along as security_token.
func (c *connection) manage(r *request) *reply {
	name := r.properties.String("name")
	if operation := r.properties.String("operation"); operation != "READ" {
		return refuse(http.StatusBadRequest, wire.ConditionNotImplemented, "$management has the operation READ, not "+quoteShort(operation))
	}
	path := strings.ToLower(strings.Trim(name, "/"))
	if refusal := c.authorize(claimNeed{path: path + "/" + managementNode}); refusal != nil {
		if _, err := c.e.verifyToken("", r.properties.String("security_token"), "sb://"+c.e.Address()+"/"+path); err != nil {
			return refuse(http.StatusUnauthorized, refusal.Condition, refusal.Description)
		}
	}
	h := c.e.hubs[path]
	if h == nil {
		missing := c.e.notFound(name)
		return refuse(http.StatusNotFound, missing.Condition, missing.Description)
	}
	switch kind := r.properties.String("type"); kind {
	case "com.microsoft:eventhub":
		return h.properties()
	case "com.microsoft:partition":
		return h.partitionProperties(r.properties.String("partition"))
	default:
		return refuse(http.StatusBadRequest, wire.ConditionNotImplemented, "the type must be com.microsoft:eventhub or com.microsoft:partition, not "+quoteShort(kind))
	}
}

func (h *hub) properties() *reply {
	ids := make([]string, len(h.partitions))
	for i, p := range h.partitions {
		ids[i] = p.id
	}
	return &reply{status: http.StatusOK, description: "OK", body: wire.Map{
		{Key: "name", Value: h.Name},
		{Key: "type", Value: "com.microsoft:eventhub"},
		{Key: "created_at", Value: wire.Timestamp(h.e.started.UnixMilli())},
		{Key: "partition_count", Value: int32(len(h.partitions))},
		{Key: "partition_ids", Value: ids},
		{Key: "georeplication_factor", Value: int32(1)},
	}}
}

func (h *hub) partitionProperties(id string) *reply {
	p, refusal := h.partition(id)
	if refusal != nil {
		return refuse(http.StatusNotFound, refusal.Condition, refusal.Description)
	}
	info := p.info()
	return &reply{status: http.StatusOK, description: "OK", body: wire.Map{
		{Key: "name", Value: h.Name},
		{Key: "type", Value: "com.microsoft:partition"},
		{Key: "partition", Value: p.id},
		{Key: "begin_sequence_number", Value: info.First},
		{Key: "last_enqueued_sequence_number", Value: info.Last},
		{Key: "last_enqueued_offset", Value: info.LastOffset},
		{Key: "last_enqueued_time_utc", Value: wire.Timestamp(info.LastEnqueued.UnixMilli())},
		{Key: "is_partition_empty", Value: info.Empty},
		{Key: "runtime_info_retrieval_time_utc", Value: wire.Timestamp(h.e.now().UnixMilli())},
	}}
}

// neverEnqueued is the enqueued time of a partition that never had an event.
var neverEnqueued = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
