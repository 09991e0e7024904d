package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// stopTimeout is how long a server may take to end after SIGTERM.
const stopTimeout = 15 * time.Second

// process is a server that was started and is to be stopped.
type process struct {
	name  string
	log   string // the file with its standard output and error
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended
}

// start runs a server whose output goes to a file in dir.
func start(dir, name string, argv []string) (*process, error) {
	log := filepath.Join(dir, name+".log")
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()                           // the process has its own
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // stop ends it by SIGTERM, and waits
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, log: log, cmd: cmd, ended: make(chan struct{})}
	// Owner: p. Ends with the process, which stop sees to. One for each server.
	go func() {
		_ = cmd.Wait() // how it ended is told by its log
		close(p.ended)
	}()
	return p, nil
}

// pid returns the process's ID.
func (p *process) pid() int { return p.cmd.Process.Pid }

// alive returns an error with the end of the log if the process has ended.
func (p *process) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s has ended; its log says:\n%s", p.name, p.logTail())
	default:
		return nil
	}
}

// stop ends the process and waits until it has ended.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// logTail returns the last 2 KiB of the log.
func (p *process) logTail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2048):])
}

// await waits until a server gives the answer to a question that asked says is
// right, for at most 30 s.
func (p *process) await(ctx context.Context, server netip.Addr, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := ask(ctx, server, name)
		if err == nil {
			return nil
		}
		if dead := p.alive(); dead != nil {
			return dead
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w; its log says:\n%s", p.name, err, p.logTail())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// awaitFile waits until the process has made a file.
func (p *process) awaitFile(ctx context.Context, path string) error {
	for { // ends with ctx, or the process
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		if err := p.alive(); err != nil {
			return err
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}
