package config

import (
	"errors"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestParseDurationReadsWhatPeopleWrite(t *testing.T) {
	tests := map[string]time.Duration{
		"0":         0,
		"0s":        0,
		"5s":        5 * time.Second,
		"1900ms":    1900 * time.Millisecond,
		"250us":     250 * time.Microsecond,
		"1h30m":     90 * time.Minute,
		"1.5s":      1500 * time.Millisecond,
		"1d":        24 * time.Hour,
		"2w":        14 * 24 * time.Hour,
		"0.5d12h":   24 * time.Hour,
		"000005s":   5 * time.Second,
		"15250w":    15250 * 7 * 24 * time.Hour,
		"0.000001s": time.Microsecond,
	}
	for text, want := range tests {
		got, err := ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
		if !regexp.MustCompile(DurationPattern).MatchString(text) {
			t.Errorf("the schema does not know %q", text)
		}
	}
}

func TestParseDurationRefusesTheRest(t *testing.T) {
	tests := map[string]error{
		"":                           errForm,
		"s":                          errForm,
		"5":                          errNoUnit,
		"00":                         errNoUnit,
		"1.5":                        errNoUnit,
		"1h30":                       errNoUnit,
		"-5s":                        errNegative,
		"+5s":                        errForm,
		".5s":                        errForm,
		"5.s":                        errForm,
		" 5s":                        errForm,
		"1e3s":                       &unitError{"e"},
		"5 s":                        &unitError{" s"},
		"5s ":                        &unitError{"s "},
		"5S":                         &unitError{"S"},
		"5min":                       &unitError{"min"},
		"1h,30m":                     &unitError{"h,"},
		"0.5us":                      errTooFine,
		"15251w":                     errTooLarge,
		"9999999999999999999s":       errTooLarge,
		strings.Repeat("1s", 20):     nil,
		strings.Repeat("1s", 21):     errForm,
		strings.Repeat("9", 1000000): errForm,
	}
	for text, want := range tests {
		_, err := ParseDuration(text)
		odd, ok := errors.AsType[*unitError](err)
		wantOdd, wantOK := errors.AsType[*unitError](want)
		if ok != wantOK || ok && *odd != *wantOdd || !ok && !errors.Is(err, want) {
			t.Errorf("%.50q: got %v, want %v", text, err, want)
		}
	}
}

func TestParseSizeReadsWhatPeopleWrite(t *testing.T) {
	tests := map[string]Size{
		"0":          0,
		"4096":       4096,
		"4096B":      4096,
		"64KiB":      64 << 10,
		"512MiB":     512 << 20,
		"1GiB":       1 << 30,
		"2TiB":       2 << 40,
		"1.5GiB":     3 << 29,
		"64kB":       64_000,
		"1MB":        1_000_000,
		"1GB":        1_000_000_000,
		"1TB":        1_000_000_000_000,
		"8388607TiB": 8388607 << 40,
	}
	for text, want := range tests {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
		if !regexp.MustCompile(SizePattern).MatchString(text) {
			t.Errorf("the schema does not know %q", text)
		}
	}
}

func TestParseSizeRefusesTheRest(t *testing.T) {
	for text, want := range map[string]error{
		"":                     errForm,
		"MiB":                  errForm,
		"1GiB512MiB":           errForm,
		"-1MiB":                errNegative,
		"1.5":                  errNoUnit,
		"1.5B":                 errTooFine,
		"8388608TiB":           errTooLarge,
		"9223372036854775808":  errTooLarge,
		"99999999999999999999": errNoUnit,
	} {
		if _, err := ParseSize(text); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", text, err, want)
		}
	}
	for _, text := range []string{"64k", "64K", "64M", "64Mi", "64KB", "64mb", "64 MiB", "64bytes"} {
		if _, err := ParseSize(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestFormatDurationWritesWhatParseDurationReads(t *testing.T) {
	for text, d := range map[string]time.Duration{
		"0":       0,
		"1us":     time.Microsecond,
		"1500us":  1500 * time.Microsecond,
		"1900ms":  1900 * time.Millisecond,
		"1m":      time.Minute,
		"1m1ms":   time.Minute + time.Millisecond,
		"1h30m":   90 * time.Minute,
		"1d":      24 * time.Hour,
		"7d":      7 * 24 * time.Hour,
		"1d1h1s":  25*time.Hour + time.Second,
		"999ms":   999 * time.Millisecond,
		"60001us": 60001 * time.Microsecond,
	} {
		if got := FormatDuration(d); got != text {
			t.Errorf("got %s, want %s", got, text)
		}
		if got, err := ParseDuration(text); got != d || err != nil {
			t.Errorf("%s is read as %v, %v", text, got, err)
		}
	}
}

func TestSizeWritesWhatParseSizeReads(t *testing.T) {
	for _, s := range []Size{0, 1, 1000, 1 << 10, 1 << 20, 3 << 29, 1<<30 + 1, 5 << 40, math.MaxInt64} {
		if got, err := ParseSize(s.String()); got != s || err != nil {
			t.Errorf("%d is written %s and read as %d, %v", int64(s), s, got, err)
		}
	}
	if got := Size(64 << 20).String(); got != "64MiB" {
		t.Errorf("got %s, want 64MiB", got)
	}
}
