// Package image_test holds the container image to what the manual says of it.
package image_test

import (
	"testing"

	"shirube/internal/config"
)

func TestFileOfTheImageServesPrivateNetworksOnly(t *testing.T) {
	cfg, err := config.Load("shirube.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range cfg.AccessControl {
		if a := r.Prefix.Addr(); r.Action != config.ActionAllow || !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			t.Errorf("%s may ask (%s): everybody who runs the image would have an open resolver", r.Prefix, r.Action)
		}
	}
	for _, l := range cfg.Listen {
		if !l.Address.Addr().IsUnspecified() || l.Address.Port() != 53 {
			t.Errorf("it listens on %s, which a container's network does not have", l.Address)
		}
	}
}
