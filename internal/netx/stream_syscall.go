//go:build unix && !(linux && (amd64 || arm64))

package netx

import "syscall"

func recvNow(fd int, b []byte) (int, error) { return syscall.Read(fd, b) }

func sendNow(fd int, b []byte) (int, error) { return syscall.Write(fd, b) }

func tellRest(int) bool { return false }

func recvRest(fd int, b []byte) (n, rest int, err error) {
	n, err = retry(recvNow, uintptr(fd), b)
	return n, 1, err
}
