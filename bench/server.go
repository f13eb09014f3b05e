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
	"sync"
	"time"

	"persistor/emulator"
)

// site is what an emulator serves.
type site struct {
	Hubs   []hub
	Queues []queue
}

// hub is a hub that makes its events up.
type hub struct {
	Name             string
	Partitions, Body int
	Events           int64 // of all partitions
}

// queue is a queue that makes its messages up, or has large ones in memory.
type queue struct {
	Name           string
	Sessions, Body int // no Sessions: the queue has none
	Messages       int64
}

// largestMade is how many bytes a body may have that is made up.
const largestMade = 1 << 20

// server is the emulator in a process of its own.
type server struct {
	cmd        *exec.Cmd
	mu         sync.Mutex // one question at a time
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
	s.mu.Lock()
	defer s.mu.Unlock()
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
	var o emulator.Options
	for _, h := range s.Hubs {
		o.Hubs = append(o.Hubs, emulator.Hub{
			Name: h.Name, Partitions: h.Partitions,
			Synthetic: &emulator.Synthetic{Events: h.Events / int64(h.Partitions), BodySize: h.Body},
		})
	}
	for _, q := range s.Queues {
		entity := emulator.Queue{Name: q.Name, Sessions: q.Sessions > 0, LockDuration: 5 * time.Minute, MaxMessageSize: 128 << 20}
		if q.Body <= largestMade {
			entity.Synthetic = &emulator.SyntheticQueue{Messages: q.Messages, Sessions: q.Sessions, BodySize: q.Body}
		}
		o.Queues = append(o.Queues, entity)
	}
	e, err := emulator.Start(o)
	if err != nil {
		return err
	}
	defer e.Close()
	for _, q := range s.Queues {
		if q.Body <= largestMade {
			continue
		}
		for range q.Messages {
			if err := e.PutMessages(q.Name, emulator.QueueMessage{Body: bytes.Repeat([]byte("large "), q.Body/6)}); err != nil {
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
