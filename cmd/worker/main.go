// Command worker drains work units of an Event Hub into blobs: the function app of that name, as a custom handler of
// Azure Functions or any other HTTP service. Its settings are environment variables, see docs/settings.md.
package main

import (
	"context"
	"os"

	"persistor/internal/app"
)

func main() {
	os.Exit(app.Main(context.Background(), app.OpenWorker))
}
