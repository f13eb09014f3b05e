// Package servicebus reads queues, subscriptions, their sessions and their dead-letter queues through the
// Azure SDK, as sources for package pull.
package servicebus
