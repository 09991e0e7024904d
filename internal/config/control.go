package config

// Control configures the socket that `shirube ctl` and curl speak to.
type Control struct {
	// Whether to open the socket. Without `socket`, and without systemd, there
	// is none in any case.
	Enabled bool `yaml:"enabled"`
	// Path of the socket, 107 octets at most; its directory has to be there.
	// Empty: `control.sock` in the directory that systemd gives the service
	// (`RuntimeDirectory=`), if any. `shirube ctl` looks for
	// `/run/shirube/control.sock` unless it is told another.
	Socket string `yaml:"socket"`
	// A group whose members may use the socket, besides root and the server's
	// own user: a name or a number. The server has to be a member of it, or to
	// run as root. Empty: none.
	Group string `yaml:"group"`
}
