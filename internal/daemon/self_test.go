package daemon

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"shirube/internal/config"
	"shirube/internal/ede"
)

// TestServerSaysWhichErrorsItSends finds the Extended DNS Errors that the source
// makes, and compares them with what RESINFO says (RFC 9606 §5).
func TestServerSaysWhichErrorsItSends(t *testing.T) {
	const root = "../.."
	codes := map[string]ede.Code{
		"Other": ede.Other, "UnsupportedDNSKEYAlgorithm": ede.UnsupportedDNSKEYAlgorithm, "UnsupportedDSDigest": ede.UnsupportedDSDigest,
		"StaleAnswer": ede.StaleAnswer, "ForgedAnswer": ede.ForgedAnswer, "Indeterminate": ede.Indeterminate, "Bogus": ede.Bogus,
		"SignatureExpired": ede.SignatureExpired, "SignatureNotYetValid": ede.SignatureNotYetValid, "DNSKEYMissing": ede.DNSKEYMissing,
		"RRSIGsMissing": ede.RRSIGsMissing, "NoZoneKeyBitSet": ede.NoZoneKeyBitSet, "NSECMissing": ede.NSECMissing, "CachedError": ede.CachedError,
		"NotReady": ede.NotReady, "Blocked": ede.Blocked, "Censored": ede.Censored, "Filtered": ede.Filtered, "Prohibited": ede.Prohibited,
		"StaleNXDOMAIN": ede.StaleNXDOMAIN, "NotAuthoritative": ede.NotAuthoritative, "NotSupported": ede.NotSupported,
		"NoReachableAuthority": ede.NoReachableAuthority, "NetworkError": ede.NetworkError, "InvalidData": ede.InvalidData,
		"SignatureExpiredBeforeValid": ede.SignatureExpiredBeforeValid, "TooEarly": ede.TooEarly,
		"UnsupportedNSEC3Iterations": ede.UnsupportedNSEC3Iterations, "UnableToConform": ede.UnableToConform, "Synthesized": ede.Synthesized,
		"InvalidQueryType": ede.InvalidQueryType, "NegativeTrustAnchor": ede.NegativeTrustAnchor,
	}
	sent := make(map[ede.Code]string)
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{"bench", "internal/ede", "internal/lab", "internal/simnet", "internal/rpl", "internal/e2e", ".git"}, rel):
			return filepath.SkipDir
		case d.IsDir(), filepath.Ext(path) != ".go", strings.HasSuffix(path, "_test.go"), rel == "internal/daemon/self.go", rel == "internal/frontend/stats.go":
			return nil // these two list codes, and send none
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "ede" {
				if code, known := codes[sel.Sel.Name]; known {
					sent[code] = rel
				}
			}
			return true
		})
		return nil
	})
	if err != nil || len(sent) < 10 {
		t.Fatalf("found %v: %v", sent, err)
	}
	cfg := config.Default()
	said := errorsTold(&cfg)
	for code, where := range sent {
		if !slices.Contains(said, code) {
			t.Errorf("%s sends code %d, which RESINFO does not say", where, code)
		}
	}
	for _, code := range said {
		if sent[code] == "" {
			t.Errorf("RESINFO says code %d, which nobody sends", code)
		}
	}
}

func TestServerThatDoesNotValidateSaysSo(t *testing.T) {
	cfg := config.Default()
	cfg.DNSSEC.Validation, cfg.Cache.ServeStale.Enabled = false, false
	for _, code := range []ede.Code{ede.Bogus, ede.StaleAnswer, ede.NegativeTrustAnchor} {
		if slices.Contains(errorsTold(&cfg), code) {
			t.Errorf("code %d is said", code)
		}
	}
	if !slices.Contains(errorsTold(&cfg), ede.NoReachableAuthority) {
		t.Error("22 is not said")
	}
}
