package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"persistor/internal/app"
	"persistor/internal/config"
)

func newWorker() *cobra.Command {
	return newProgram(app.OpenWorker, &cobra.Command{
		Use:   "worker",
		Short: "Run a worker: it drains what a call asks for",
		Long: `Worker is the program of the function app cmd/worker. It answers

  GET, POST /api/pull    drain the work unit in the body, or all that there is without one
  GET       /api/status  how far the running units are

Its settings come from the environment; docs/settings.md lists them. Once it listens it says
where in a line of JSON on standard output; its log follows there. Ctrl-C and SIGTERM let the
running calls store what they hold.

Exit status: 0 it was told to end; 1 it could not work; 2 settings are missing or wrong.`,
		Example: `  export EVENT_HUB_CONN_STRING="Endpoint=sb://..." EVENT_HUB_NAME=rides
  export EVENT_HUB_CHECKPOINT_CONTAINER=checkpoints
  export PERSISTOR_STORAGE_CONNECTION_STRING="file://$PWD/stored" PERSISTOR_CONTAINER_NAME=blobs
  PERSISTOR_CREATE_CONTAINER=TRUE LISTEN_ADDRESS=127.0.0.1:8080 persistor worker

  export SERVICE_TYPE=SERVICE_BUS_PULL SERVICE_BUS_CONNECTION_STRING="Endpoint=sb://..."
  SERVICE_BUS_QUEUE_NAME=orders SERVICE_BUS_SESSIONS=TRUE persistor worker`,
	})
}

func newInvoker() *cobra.Command {
	return newProgram(app.OpenInvoker, &cobra.Command{
		Use:   "invoker",
		Short: "Run an invoker: it deals a backlog out to workers",
		Long: `Invoker is the program of the function app cmd/invoker. It answers

  GET, POST /api/invoke  start a run, and report on it when it is over

with N, N_per_func and batch_store_size in the query, or as JSON in the body. One run of a source
is under way at a time: a call meanwhile is answered 409, unless it says exclusive=false. Under
the Azure Functions host a timer (function schedule) and the messages of a queue (function queue)
start runs, too. Its settings come from the environment; docs/settings.md lists them. Once it
listens it says where in a line of JSON on standard output; its log follows there.

Exit status: 0 it was told to end; 1 it could not work; 2 settings are missing or wrong.`,
		Example: `  export EVENT_HUB_CONN_STRING="Endpoint=sb://..." EVENT_HUB_NAME=rides
  export EVENT_HUB_CHECKPOINT_CONTAINER=checkpoints PERSISTOR_STORAGE_CONNECTION_STRING="file://$PWD/stored"
  FUNC_TO_INVOKE=http://127.0.0.1:8080/api/pull LISTEN_ADDRESS=127.0.0.1:8081 persistor invoker
  curl -X POST "http://127.0.0.1:8081/api/invoke?N=4"

  export SERVICE_TYPE=SERVICE_BUS_PULL SERVICE_BUS_CONNECTION_STRING="Endpoint=sb://..."
  SERVICE_BUS_QUEUE_NAME=orders SERVICE_BUS_SESSIONS=TRUE persistor invoker`,
	})
}

func newPush() *cobra.Command {
	return newProgram(app.OpenPush, &cobra.Command{
		Use:   "push",
		Short: "Run a push program: it stores what a trigger brings",
		Long: `Push is the program of the function app cmd/push. Under the Azure Functions host it serves the function

  persist    store the messages that the trigger brings: of an Event Hub, Service Bus or Event Grid

The host starts it with a port in FUNCTIONS_CUSTOMHANDLER_PORT, calls it at POST /persist, and guards it:
nobody else should be able to call it. Its settings come from the environment; docs/settings.md lists
them. Once it listens it says where in a line of JSON on standard output; its log follows there.

Exit status: 0 it was told to end; 1 it could not work; 2 settings are missing or wrong.`,
		Example: `  export BINDING_SERVICE=EVENT_HUB EVENT_HUB_NAME_BINDING=rides
  export PERSISTOR_STORAGE_CONNECTION_STRING="file://$PWD/stored" PERSISTOR_CONTAINER_NAME=blobs
  FUNCTIONS_CUSTOMHANDLER_PORT=8082 PERSISTOR_CREATE_CONTAINER=TRUE persistor push`,
	})
}

// closeTimeout bounds how long a program takes to give back its connections.
const closeTimeout = 5 * time.Second

// newProgram completes a command that runs one of the programs until the context ends. The hidden
// flag is the demo's: the program ends with the one that started it, however that one ends, since its
// standard input is a pipe from there.
func newProgram(open func(context.Context, config.Lookup, io.Writer) (*app.Program, error), cmd *cobra.Command) *cobra.Command {
	var withParent bool
	cmd.GroupID = groupPrograms
	cmd.Args = arguments(cobra.NoArgs)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		if withParent {
			go func() {
				defer cancel()
				_, _ = io.Copy(io.Discard, cmd.InOrStdin())
			}()
		}
		program, err := open(ctx, os.LookupEnv, cmd.OutOrStdout())
		if err != nil {
			return err
		}
		err = program.Run(ctx, cmd.OutOrStdout())

		closing, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if closeErr := program.Close(closing); err == nil && closeErr != nil && ctx.Err() == nil {
			err = fmt.Errorf("close %s: %w", cmd.Name(), closeErr)
		}
		return err
	}
	cmd.Flags().BoolVar(&withParent, "exit-with-parent", false, "end when standard input does")
	cmd.Flags().Lookup("exit-with-parent").Hidden = true
	return cmd
}
