package config

// Queue is what is drained of Service Bus: a queue, a topic's subscription, or the dead-letter queue of
// either.
type Queue struct {
	Connection Connection
	// Name is the queue's; "" for a subscription, which has the other two.
	Name                string
	Topic, Subscription string
	// DeadLetter drains what the service or a receiver has set aside as undeliverable.
	DeadLetter bool
	// Sessions tells that messages come in sessions. A dead-letter queue has none.
	Sessions bool
	// CustomEndpoint is the host, with or without a port, to connect to in place of the namespace's own; "" for none.
	CustomEndpoint string
}

// Path is the address of what is drained, as Service Bus writes it: "orders", "topic/Subscriptions/sub",
// "orders/$DeadLetterQueue".
func (q Queue) Path() string {
	path := q.Name
	if q.Topic != "" {
		path = q.Topic + "/Subscriptions/" + q.Subscription
	}
	if q.DeadLetter {
		path += "/$DeadLetterQueue"
	}
	return path
}

// String says what is drained: "queue orders", "dead-letter queue of subscription sub of topic events".
func (q Queue) String() string {
	name := "queue " + q.Name
	if q.Topic != "" {
		name = "subscription " + q.Subscription + " of topic " + q.Topic
	}
	if q.DeadLetter {
		name = "dead-letter queue of " + name
	}
	return name
}

// folder is the main folder of what is drained, where STORE_PARAM names none.
func (q Queue) folder() string {
	folder := q.Name
	if q.Topic != "" {
		folder = q.Topic + "/" + q.Subscription
	}
	if q.DeadLetter {
		folder += "/deadletter"
	}
	return folder
}

// ReadQueue reads the settings of the queue or topic alone, for a program that only sends to it: what of
// it is drained, its subscription, dead-letter queue or sessions, is left out. The error is an [*Error].
func ReadQueue(lookup Lookup) (Queue, error) {
	var q Queue
	var topic bool
	service := ServiceBus
	r := reader{lookup: lookup, service: &service}
	r.read(q.settings(&topic))
	r.checkAddress(&q, topic)
	if err := r.err(); err != nil {
		return Queue{}, err
	}
	q.Subscription, q.DeadLetter, q.Sessions = "", false, false
	return q, nil
}
