// Command push stores the messages that a trigger brings, of an Event Hub, Service Bus or Event Grid: the function app of
// that name, as a custom handler of Azure Functions. Its settings are environment variables, see docs/settings.md.
package main

import (
	"context"
	"os"

	"persistor/internal/app"
)

func main() {
	os.Exit(app.Main(context.Background(), app.OpenPush))
}
