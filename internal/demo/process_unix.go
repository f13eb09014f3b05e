//go:build unix

package demo

import (
	"os/exec"
	"syscall"
)

// detach keeps a terminal's Ctrl-C from reaching the child: it is for the demo to end its processes, in
// its own order.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
