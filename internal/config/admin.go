package config

import (
	"fmt"
	"net/netip"
)

// Admin configures what monitoring and people look at over HTTP: metrics, health,
// and a page with the server's state. Nothing can be changed there.
type Admin struct {
	// Whether to open the socket and to listen. Without `socket`, `listen` and
	// systemd there is nothing to be opened.
	Enabled bool `yaml:"enabled"`
	// Path of a unix socket, 107 octets at most; its directory has to be there.
	// Empty: `admin.sock` in the directory that systemd gives the service
	// (`RuntimeDirectory=`), if any.
	Socket string `yaml:"socket"`
	// A group whose members may use the socket, besides root and the server's
	// own user: a name or a number. The server has to be a member of it, or to
	// run as root. Empty: none.
	Group string `yaml:"group"`
	// Addresses to listen on over TCP.
	Listen []AdminListener `yaml:"listen" range:"0..16"`
	// Serve the profiles of the Go runtime below `/debug/pprof/`, for those who
	// look into the server itself. One at a time, of a minute at most.
	Profiles bool `yaml:"profiles"`
}

// AdminListener is one address over TCP. It needs `token_file` or
// `client_ca_file`, on loopback too.
type AdminListener struct {
	// IP address and port, as `127.0.0.1:9153` or `[::1]:9153`.
	Address netip.AddrPort `yaml:"address" required:"true"`
	// A file with the server's certificate, and those it is signed by, in PEM.
	// It is read anew for each connection. Empty: no TLS.
	Certificate string `yaml:"cert_file"`
	// A file with the key of `cert_file`, in PEM.
	Key string `yaml:"key_file"`
	// A file with the certificates, in PEM, by one of which those of clients have
	// to be signed. It needs `cert_file`. `/livez` and `/readyz` need no certificate,
	// for load balancers have none, but say without it only whether, not why not.
	// Empty: clients need none.
	ClientCA string `yaml:"client_ca_file"`
	// A file with a text of 16 to 1024 octets that clients have to show, as
	// bearer token or as the password of any user. It is read anew for each
	// request. `/livez` and `/readyz` need no token either. Without `cert_file`
	// whoever sees the packets sees the token. Empty: none is needed.
	TokenFile string `yaml:"token_file"`
}

func (AdminListener) defaults() any { return AdminListener{} }

// admin reports listeners that everybody could use, and what lacks its other
// half.
func (d *decoder) admin(list []AdminListener) {
	for i, l := range list {
		at := func(key string) string { return fmt.Sprintf("admin.listen[%d].%s", i, key) }
		switch {
		case !l.Address.IsValid():
		case l.Certificate != "" && l.Key == "":
			d.contradiction("found a certificate without its key; expected both", at("cert_file"))
		case l.Certificate == "" && l.Key != "":
			d.contradiction("found a key without its certificate; expected both", at("key_file"))
		case l.ClientCA != "" && l.Certificate == "":
			d.contradiction("found client_ca_file without a certificate of the server's own; expected both", at("client_ca_file"))
		case l.ClientCA == "" && l.TokenFile == "":
			d.contradiction(fmt.Sprintf("found %s alone; expected token_file or client_ca_file with it, or everybody who reaches it could read it (users of this machine need none with admin.socket)", l.Address), at("address"))
		}
	}
}
