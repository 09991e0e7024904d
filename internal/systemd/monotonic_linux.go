package systemd

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic returns what CLOCK_MONOTONIC shows.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
