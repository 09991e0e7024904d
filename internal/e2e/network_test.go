package e2e

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// network is a network of its own, with nothing but loopback. There the ports
// that the program uses by default are free, and the Internet out of reach. A
// nil network is the machine's own.
type network struct {
	holder *process // keeps it alive
}

// ownNetwork returns a network that lasts as long as the test; nil where the
// kernel or a container does not allow one.
func ownNetwork(t *testing.T) *network {
	t.Helper()
	var flags uintptr = syscall.CLONE_NEWNET
	if os.Geteuid() != 0 {
		flags |= syscall.CLONE_NEWUSER
	}
	const up = "loopback is up"
	hold := exec.Command("bash", "-c", "ip link set lo up && echo "+up+" && read -r")
	hold.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if flags&syscall.CLONE_NEWUSER != 0 {
		hold.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		hold.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	stdin, err := hold.StdinPipe() // its end ends the holder
	if err != nil {
		t.Fatal(err)
	}
	p, err := startCommand("network holder", hold, nil)
	if err == nil {
		_, err = p.await(p.out, up, startTimeout)
	}
	if err != nil {
		t.Logf("no network of its own for this test (%v): it uses the machine's", err)
		_ = stdin.Close()
		return nil
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		p.stop()
	})
	return &network{holder: p}
}

// enter returns the command line that runs a program in n.
func (n *network) enter(program string) []string {
	if n == nil {
		return []string{program}
	}
	argv := []string{"nsenter", "--target", strconv.Itoa(n.holder.pid()), "--net"}
	if os.Geteuid() != 0 {
		argv = append(argv, "--user", "--preserve-credentials")
	}
	return append(argv, program)
}
