// Package eventhub reads partitions of an Event Hub with the official client: a [pull.Source] for each,
// what a planner has to know about them, and checkpoints in the format that the SDKs share.
package eventhub
