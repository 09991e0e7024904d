package systemd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// firstFD is the first descriptor that the manager hands on (SD_LISTEN_FDS_START).
const firstFD = 3

// maxFDs is how many descriptors may be handed on: more than any configuration
// has listeners.
const maxFDs = 16384

// Socket is a descriptor that was handed on, and its name there.
type Socket struct {
	Name string
	FD   int
}

// Sockets returns what the manager has handed to this process: the sockets of a
// socket unit, and those that were stored by the process before. They are the
// caller's; children do not inherit them, nor that they were there.
func Sockets() ([]Socket, error) {
	count, pid, names := os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDNAMES")
	for _, key := range []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(key); err != nil {
			return nil, err
		}
	}
	if count == "" || pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // for somebody else
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxFDs {
		return nil, fmt.Errorf("LISTEN_FDS: found %q; expected a number up to %d (sd_listen_fds(3))", count, maxFDs)
	}
	named := strings.Split(names, ":")
	list := make([]Socket, n)
	for i := range list {
		list[i].FD = firstFD + i
		if i < len(named) {
			list[i].Name = named[i]
		}
		syscall.CloseOnExec(list[i].FD)
	}
	return list, nil
}
