package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"persistor/emulator"
)

// The address and key of Microsoft's own emulator, so that what is set up for that one finds this one.
const (
	emulatorAddress = "127.0.0.1:5672"
	emulatorKey     = "SAS_KEY_VALUE"
)

// maxConfig bounds the emulator's configuration file, in bytes.
const maxConfig = 1 << 20

func newEmulator() *cobra.Command {
	var address, key, configFile string
	var names []string
	cmd := &cobra.Command{
		Use:   "emulator",
		Short: "Run an Event Hubs emulator on this machine",
		Long: `Emulator serves Event Hubs to the real clients over AMQP 1.0, on loopback and without TLS.
Events are held in memory and are gone when it ends. It runs until Ctrl-C.

Address and key are by default those of Microsoft's emulator, so that

  Endpoint=sb://localhost;SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true

reaches this one too. The key is real: a client with another one is refused.

Exit status: 0 after Ctrl-C; 1 it could not listen; 2 wrong arguments.`,
		Example: `  persistor emulator --hub rides:4
  persistor emulator --hub rides:4 --hub orders:32 --address 127.0.0.1:0
  persistor emulator --config hubs.json`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			hubs, err := emulatorHubs(configFile, names)
			if err != nil {
				return usageError{err}
			}
			e, err := emulator.Start(emulator.Options{Address: address, Key: key, Hubs: hubs})
			if listening := (*net.OpError)(nil); errors.As(err, &listening) {
				return err // the address is taken, or not this machine's
			} else if err != nil {
				return usageError{err}
			}
			announceEmulator(cmd.OutOrStdout(), e, hubs)
			<-cmd.Context().Done()
			return e.Close()
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringArrayVar(&names, "hub", nil, "an Event Hub as `NAME:PARTITIONS`, or NAME for one partition; repeat it for more")
	flags.StringVar(&configFile, "config", "", "`FILE` with the hubs and their limits as JSON, in place of --hub")
	flags.StringVar(&address, "address", emulatorAddress, "loopback `HOST:PORT` to listen on; port 0 takes a free one")
	flags.StringVar(&key, "key", emulatorKey, "shared access `KEY` of RootManageSharedAccessKey")
	return cmd
}

// emulatorHubs takes the hubs from the file or from the flags.
func emulatorHubs(configFile string, names []string) (hubs []emulator.Hub, err error) {
	switch {
	case configFile != "" && len(names) > 0:
		return nil, errors.New("--config and --hub exclude each other: name the hubs in one place")
	case configFile != "":
		return readEmulatorConfig(configFile)
	case len(names) == 0:
		return nil, errors.New("no Event Hub is named: add --hub NAME:PARTITIONS, or --config FILE")
	}
	for _, text := range names {
		name, count, given := strings.Cut(text, ":")
		partitions := 1
		if given {
			if partitions, err = strconv.Atoi(count); err != nil || partitions < 1 {
				return nil, fmt.Errorf("--hub %q: %q is no number of partitions, expected NAME:PARTITIONS such as rides:4", text, count)
			}
		}
		hubs = append(hubs, emulator.Hub{Name: name, Partitions: partitions})
	}
	return hubs, nil
}

func readEmulatorConfig(file string) ([]emulator.Hub, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open --config: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("read --config: %w", err)
	}
	if len(content) > maxConfig {
		return nil, fmt.Errorf("read --config: %s is larger than %d bytes", file, maxConfig)
	}
	hubs, err := emulator.ParseConfig(content)
	if err != nil {
		return nil, fmt.Errorf("read --config %s: %w", file, err)
	}
	return hubs, nil
}

// announceEmulator says how to reach the emulator. Its key is for this machine alone, and meant to be seen.
func announceEmulator(w io.Writer, e *emulator.Emulator, hubs []emulator.Hub) {
	fmt.Fprintf(w, "Event Hubs emulator on %s, until Ctrl-C\n", e.Address())
	for _, h := range hubs {
		fmt.Fprintf(w, "  %s: %d partitions\n", h.Name, h.Partitions)
	}
	fmt.Fprintf(w, "Connection string:\n  %s\n", e.ConnectionString())
	if len(hubs) > 0 {
		fmt.Fprintf(w, "For example, in another terminal, a line is an event:\n  persistor publish FILE --hub %s --connection-string '%s'\n",
			hubs[0].Name, e.ConnectionString())
	}
}
