// Command invoker splits an Event Hub's backlog over workers: the function app of that name, as a custom handler of
// Azure Functions or any other HTTP service. Its settings are environment variables, see docs/settings.md.
package main

import (
	"context"
	"os"

	"persistor/internal/app"
)

func main() {
	os.Exit(app.Main(context.Background(), app.OpenInvoker))
}
