// Package debian_test holds the Debian package to what the manual says of it.
package debian_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"shirube/internal/config"
)

func TestFileOfThePackageServesThisMachineOnly(t *testing.T) {
	cfg, err := config.Load("shirube.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range cfg.Listen {
		if !l.Address.Addr().IsLoopback() || l.Address.Port() != 53 {
			t.Errorf("it listens on %s before the operator has said so", l.Address)
		}
	}
	if cfg.DNSSEC.StateDirectory != "/var/lib/shirube" {
		t.Errorf("trust anchors are kept in %q, where the unit lets it write nothing", cfg.DNSSEC.StateDirectory)
	}
}

// The example in the file has to be one that is right when it is uncommented.
func TestExampleInTheFileIsGood(t *testing.T) {
	text, err := os.ReadFile("shirube.yaml")
	if err != nil {
		t.Fatal(err)
	}
	example := uncommented(string(text))
	cfg, err := config.Parse("example", []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Listen) != 2 || len(cfg.AccessControl) != 2 {
		t.Errorf("it says %+v", cfg)
	}
}

func TestScriptsAreShell(t *testing.T) {
	for _, script := range []string{"postinst", "prerm", "postrm", "announce/postinst", "announce/prerm", "announce/postrm"} {
		if out, err := exec.Command("sh", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
}

func TestFileOfTheAnnouncerAnnouncesNothing(t *testing.T) {
	cfg, err := config.LoadAnnouncer("announce/announce.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Driver != config.DriverNone {
		t.Errorf("its driver is %s before the operator has said what to announce", cfg.Driver)
	}
	text, err := os.ReadFile("announce/announce.yaml")
	if err != nil {
		t.Fatal(err)
	}
	example := uncommented(string(text))
	cfg, err = config.ReadAnnouncer("example", strings.NewReader(example))
	if err != nil || cfg.Driver != config.DriverBGP || len(cfg.VIPs) != 2 || len(cfg.BGP.Peers) != 2 {
		t.Errorf("the example says %+v, %v", cfg, err)
	}
}

// uncommented returns the example in the comments of a file.
func uncommented(text string) string {
	var example strings.Builder
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "#   "); ok {
			example.WriteString(rest)
		}
	}
	return example.String()
}
