package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Serve answers calls on l until ctx is done, and closes l. Then it takes no more calls, and those in
// flight see their context end at once, so that a pull loop stops receiving, stores and settles what it
// holds, and answers; Serve waits for these answers, for drain at most, and cuts off what is left. It
// returns nil after a stop that needed no cutting off. When it returns, every call has its answer or
// its connection closed; a handler that heeds no context may still be running.
func Serve(ctx context.Context, l net.Listener, h http.Handler, drain time.Duration) error {
	server := &http.Server{
		Handler: h,
		// No ReadTimeout, whose end would cancel a call that runs for minutes, and no WriteTimeout: the
		// handlers set deadlines for the parts where a caller is waited for.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}

	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err := server.Shutdown(stop)
	if err != nil {
		server.Close()
		err = fmt.Errorf("stop serving %s: calls were still running after %v: %w", l.Addr(), drain, err)
	}
	if closed := <-served; !errors.Is(closed, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve %s: %w", l.Addr(), closed))
	}
	return err
}
