package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Bounds of waiting for a program. A machine that is busy with something else
// makes everything slow; one that takes longer than this is out of order.
const (
	startTimeout = 15 * time.Second
	stopTimeout  = 15 * time.Second
)

// process is a program that runs beside the tests until it is stopped.
type process struct {
	name  string
	begun time.Time
	cmd   *exec.Cmd
	out   *output       // its standard error; standard output too, unless that was taken
	ended chan struct{} // closed when it has ended and all of its output is there
}

// age is how long it has been since p was begun.
func (p *process) age() time.Duration { return time.Since(p.begun) }

// start runs argv, with env added to the environment.
func start(name string, argv, env []string, stdout *output) (*process, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	return startCommand(name, cmd, stdout)
}

// startCommand runs cmd. Its standard output goes to stdout; nil: to where its
// standard error does.
func startCommand(name string, cmd *exec.Cmd, stdout *output) (*process, error) {
	p := &process{name: name, cmd: cmd, out: &output{}, ended: make(chan struct{})}
	if stdout == nil {
		stdout = p.out
	}
	cmd.Stdout, cmd.Stderr = stdout, p.out
	cmd.WaitDelay = stopTimeout // for a child's child that keeps the pipe
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true              // what it starts is stopped with it
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // and it with us, if we are killed
	started := make(chan error, 1)
	// Owner: p. End: when the process ends, which stop sees to. Bound: one for
	// each process. The thread is kept for as long as the process: Pdeathsig is
	// sent when the thread that started it ends.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		p.begun = time.Now()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended is in cmd.ProcessState
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// pid returns the ID of the process.
func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends sig. The process may have ended by itself; that is found out by
// waiting for it.
func (p *process) signal(sig os.Signal) { _ = p.cmd.Process.Signal(sig) }

// running reports whether the process has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// wait waits until the process has ended, and reports whether it did in time.
func (p *process) wait(timeout time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(timeout):
		return false
	}
}

// stop ends the process, if need be by force, and all that it started. It
// reports whether SIGTERM was enough.
func (p *process) stop() bool {
	if !p.running() {
		return true
	}
	p.signal(syscall.SIGTERM)
	if p.wait(stopTimeout) {
		return true
	}
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL) // its group: Setpgid
	<-p.ended
	return false
}

// state says how the process ended, as exec.ExitError does.
func (p *process) state() string {
	if p.running() {
		return "still running"
	}
	return p.cmd.ProcessState.String()
}

// exitCode returns the code that the process ended with, -1 if a signal ended
// it or it has not ended.
func (p *process) exitCode() int {
	if p.running() {
		return -1
	}
	return p.cmd.ProcessState.ExitCode()
}

// maxOutput is how much of a program's output is kept, in octets.
const maxOutput = 1 << 20

// output keeps what a program writes, and tells who waits for a text in it.
type output struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	marks []*mark
}

// mark is a text that somebody waits for.
type mark struct {
	text string
	seen chan time.Time // receives when text was there
}

// Write implements [io.Writer]. More than maxOutput is dropped.
func (o *output) Write(b []byte) (int, error) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(b[:min(len(b), maxOutput-o.buf.Len())])
	waiting := o.marks[:0]
	for _, m := range o.marks {
		if bytes.Contains(o.buf.Bytes(), []byte(m.text)) {
			m.seen <- now
			continue
		}
		waiting = append(waiting, m)
	}
	o.marks = waiting
	return len(b), nil
}

// String returns what was written.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// notify returns a channel that receives the time when text was there: now, if
// it is there already.
func (o *output) notify(text string) <-chan time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := &mark{text: text, seen: make(chan time.Time, 1)}
	if bytes.Contains(o.buf.Bytes(), []byte(text)) {
		m.seen <- time.Now()
		return m.seen
	}
	o.marks = append(o.marks, m)
	return m.seen
}

// await waits for text in the output of p and returns when it was there. An
// error has the output so far.
func (p *process) await(o *output, text string, timeout time.Duration) (time.Time, error) {
	seen := o.notify(text)
	select {
	case at := <-seen:
		return at, nil
	case <-p.ended:
		select {
		case at := <-seen: // its last words
			return at, nil
		default:
		}
		return time.Time{}, fmt.Errorf("%s ended (%s) before it wrote %q:\n%s", p.name, p.state(), text, tail(o.String(), 40))
	case <-time.After(timeout):
		return time.Time{}, fmt.Errorf("%s did not write %q within %v:\n%s", p.name, text, timeout, tail(o.String(), 40))
	}
}

// tail returns the last lines of text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	if cut := len(all) - lines; cut > 0 {
		return fmt.Sprintf("… (%d lines before)\n%s", cut, strings.Join(all[cut:], "\n"))
	}
	return strings.Join(all, "\n")
}

// head returns the first lines of text.
func head(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	if len(all) <= lines {
		return strings.Join(all, "\n")
	}
	return fmt.Sprintf("%s\n… (%d lines more)", strings.Join(all[:lines], "\n"), len(all)-lines)
}
