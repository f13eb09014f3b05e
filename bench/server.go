package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"persistor/emulator"
)

// site is what an emulator serves.
type site struct {
	Hubs   []emulator.Hub
	Queues []emulator.Queue
	Large  []large
}

// large is messages in a queue that are kept in memory.
type large struct {
	Queue          string
	Messages, Body int
}

// server is the emulator in a process of its own.
type server struct {
	cmd        *exec.Cmd
	stdin      io.WriteCloser
	replies    *bufio.Scanner
	connection string
}

func start(ctx context.Context, s site) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	spec, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	e := &server{cmd: exec.CommandContext(ctx, self, "child", "emulator", string(spec))}
	e.cmd.Stderr = os.Stderr
	if e.stdin, err = e.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	e.replies = bufio.NewScanner(out)
	if err := e.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start emulator: %w", err)
	}
	if !e.replies.Scan() {
		e.stop()
		return nil, errors.New("start emulator: it ended")
	}
	e.connection = e.replies.Text()
	return e, nil
}

// ask has the emulator carry out a command, and returns its answer.
func (s *server) ask(command string) string {
	fmt.Fprintln(s.stdin, command)
	if !s.replies.Scan() {
		return ""
	}
	return s.replies.Text()
}

// cpu is the CPU time that the emulator has used, in seconds.
func (s *server) cpu() float64 {
	seconds, _ := strconv.ParseFloat(s.ask("cpu"), 64)
	return seconds
}

// delay holds back all that the emulator sends from now on.
func (s *server) delay(d time.Duration) { s.ask("delay " + d.String()) }

func (s *server) stop() {
	s.stdin.Close()
	_ = s.cmd.Wait()
}

// serve runs the emulator until its input ends.
func serve(spec string) error {
	var s site
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return err
	}
	e, err := emulator.Start(emulator.Options{Hubs: s.Hubs, Queues: s.Queues})
	if err != nil {
		return err
	}
	defer e.Close()
	for _, l := range s.Large {
		for range l.Messages {
			if err := e.PutMessages(l.Queue, emulator.QueueMessage{Body: bytes.Repeat([]byte("large "), l.Body/6)}); err != nil {
				return err
			}
		}
	}
	fmt.Println(e.ConnectionString())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if d, ok := strings.CutPrefix(lines.Text(), "delay "); ok {
			delay, err := time.ParseDuration(d)
			if err != nil {
				return err
			}
			e.Delay(delay)
		}
		fmt.Println(spent().Seconds())
	}
	return nil
}
