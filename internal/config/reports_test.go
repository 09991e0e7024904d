package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden reports of testdata/bad anew")

// TestReportsNameEverythingWrong holds the reports of bad files, named by what
// is wrong with them, to the ones beside them. Run it with -update after a
// change of the messages, and read the difference.
func TestReportsNameEverythingWrong(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d bad files, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := Parse("shirube.yaml", data)
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("no report but %+v, %v", cfg, err)
			}
			report := err.Error() + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(report), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if report != string(want) {
				t.Errorf("report:\n%swant:\n%s", report, want)
			}
		})
	}
}
