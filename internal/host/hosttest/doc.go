// Package hosttest is a double of the Azure Functions host: it runs a function app's folder as it is on disk, with
// the real handler process, and listens to real services, so that a test sees what the app does under the host.
//
//	h, err := hosttest.Start(ctx, hosttest.Options{Folder: "functions/worker", Settings: map[string]string{...}})
//	...
//	defer h.Close()
//	h.Await(ctx, func() bool { return len(h.Results()) == 3 })
//
// # What it does
//
// It reads host.json, */function.json and local.settings.json, refuses what the host refuses, expands %NAME%, starts the handler with
// the host's variables, polls GET / until it answers, starts it again by its exit status, and kills it at functionTimeout. It serves HTTP
// functions with their keys, forwarded or not; listens to Event Hubs, Service Bus and queues; fires timers when told
// ([Host.Tick]) and delivers events of Event Grid ([Host.Deliver], or over its webhook); applies retry policies, and what each trigger does with a
// failure; and writes blob outputs. Shapes are those of azure-functions-host (ScriptInvocationContextExtensions), azure-webjobs-sdk and
// the extensions in azure-sdk-for-net.
//
// # Paths of blob outputs
//
// An expression names binding data: metadata before they are cut down for the wire, and what azure-webjobs-sdk's BindingTemplateToken and
// BindingDataPathHelper make of them is this:
//
//   - Names go without regard to case, and reach into objects with dots: {PartitionContext.PartitionId}, {Properties.kind}. One that
//     isn't there fails the invocation after the handler's success; one that is null, such as a partition key, is nothing.
//   - A DateTime takes any .NET format, in UTC: {EnqueuedTimeUtc:yyyy/MM/dd/HHmmss} works, of Event Hubs and of Service Bus. Without a format it is
//     yyyy-MM-ddTHH-mm-ssK, where K is nothing for Event Hubs and Z for Service Bus.
//   - A DateTimeOffset becomes nothing at all: {EnqueuedTime:yyyy}, {InsertionTime}. So do arrays, objects, booleans and fractions; with
//     cardinality many there is nothing but arrays, and no path can tell one batch from another.
//   - Whole numbers and strings go in as they are, whatever the format: {SequenceNumber:000000} does not pad.
//   - Event Grid gives its data alone, {data.x}: neither id nor source nor time of an event can be in a path.
//   - {datetime:yyyy-MM-dd} and {sys.utcnow:...} are the time of writing, {rand-guid} and {sys.randguid} differ with every attempt: a
//     redelivery writes another blob. A dot in the format of {datetime:...} cuts it off.
//   - A payload that is a string with a JSON object goes before all of this with its own properties.
//
// # What is left out
//
// Identities in place of connection strings; constraints in routes; schedules (a timer fires when it is told to); the admin API; scaling, and
// so more than one instance; input bindings, and outputs other than HTTP and blob; Newtonsoft's habit of
// writing dates in JSON anew; .NET's standard formats of one letter. An invocation that finds the handler dead in the moment before that is noticed is sent
// to the next process, where the host fails it.
package hosttest
