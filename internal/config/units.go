package config

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Size is an amount of memory in bytes, written as `512MiB`.
type Size int64

// Auto is the size that the server works out by itself, written as `auto`, of
// keys that allow it.
const Auto Size = -1

// unit is a unit of a duration, in nanoseconds, or of a size, in bytes.
type unit struct {
	name string
	size int64
	also []string // what people write for it, which is not accepted
}

// durationUnits returns the units of time, the largest first.
func durationUnits() []unit {
	return []unit{
		{"w", int64(7 * 24 * time.Hour), []string{"wk", "week", "weeks"}},
		{"d", int64(24 * time.Hour), []string{"day", "days"}},
		{"h", int64(time.Hour), []string{"hr", "hrs", "hour", "hours"}},
		{"m", int64(time.Minute), []string{"min", "mins", "minute", "minutes"}},
		{"s", int64(time.Second), []string{"sec", "secs", "second", "seconds"}},
		{"ms", int64(time.Millisecond), []string{"msec", "millis", "milliseconds"}},
		{"us", int64(time.Microsecond), []string{"µs", "μs", "usec", "microseconds"}},
	}
}

// sizeUnits returns the units of memory, the largest first. There is no `K`,
// `M` or `G`: they are powers of 1024 to some programs (Unbound) and of 1000
// to others (Kubernetes), and nobody should have to guess.
func sizeUnits() []unit {
	return []unit{
		{"TiB", 1 << 40, nil},
		{"TB", 1e12, nil},
		{"GiB", 1 << 30, nil},
		{"GB", 1e9, nil},
		{"MiB", 1 << 20, nil},
		{"MB", 1e6, nil},
		{"KiB", 1 << 10, nil},
		{"kB", 1e3, nil},
		{"B", 1, nil},
	}
}

// maxMeasure is how long the text of a duration or a size may be, which bounds
// the numbers that are calculated with. The longest sensible ones have 20.
const maxMeasure = 40

// Errors of [ParseDuration] and [ParseSize], for texts that look like a
// duration or a size and are none.
var (
	errNoUnit   = errors.New("has no unit")
	errNegative = errors.New("is negative")
	errTooLarge = errors.New("is too large")
	errTooFine  = errors.New("is not a whole number of the smallest unit")
	errForm     = errors.New("has another form")
)

// unitError reports a unit that does not exist.
type unitError struct{ unit string }

func (e *unitError) Error() string { return fmt.Sprintf("has the unknown unit %q", e.unit) }

// Patterns of what durations and sizes are, for the schema. What they match is
// accepted unless it is too large or too fine.
const (
	DurationPattern = `^(0|([0-9]+(\.[0-9]+)?(w|d|h|m|s|ms|us))+)$`
	SizePattern     = `^[0-9]+(\.[0-9]+)?(TiB|TB|GiB|GB|MiB|MB|KiB|kB|B)?$`
)

// ParseDuration reads a duration: numbers with a unit each, as `1900ms`,
// `1h30m`, `1.5s` or `2w`, or a bare `0`. The units are w, d (24 hours), h, m,
// s, ms and us.
func ParseDuration(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	n, err := parseMeasure(text, durationUnits(), int64(time.Microsecond))
	return time.Duration(n), err
}

// ParseSize reads a size: a number with the unit B, kB, MB, GB or TB (powers of
// 1000) or KiB, MiB, GiB or TiB (powers of 1024), as `512MiB`. A bare number
// is bytes.
func ParseSize(text string) (Size, error) {
	if _, err := strconv.ParseUint(text, 10, 64); err == nil {
		text += "B"
	}
	units := sizeUnits()
	n, err := parseMeasure(text, units, 1)
	if err != nil {
		return 0, err
	}
	if _, _, rest := cutMeasure(text); rest != "" {
		return 0, errForm // only durations are sums: 1GiB512MiB is no size
	}
	return Size(n), nil
}

// parseMeasure adds up the numbers of text, each times its unit. The sum has
// to be a multiple of step.
func parseMeasure(text string, units []unit, step int64) (int64, error) {
	switch {
	case text == "" || len(text) > maxMeasure:
		return 0, errForm
	case strings.HasPrefix(text, "-"):
		return 0, errNegative
	}
	sum := new(big.Rat)
	for text != "" {
		var number, name string
		number, name, text = cutMeasure(text)
		n, ok := new(big.Rat).SetString(number)
		if !ok {
			return 0, errForm
		}
		size, err := findUnit(units, name)
		if err != nil {
			return 0, err
		}
		sum.Add(sum, n.Mul(n, new(big.Rat).SetInt64(size)))
	}
	steps := new(big.Rat).Quo(sum, new(big.Rat).SetInt64(step))
	switch {
	case !steps.IsInt():
		return 0, errTooFine
	case !sum.Num().IsInt64():
		return 0, errTooLarge
	}
	return sum.Num().Int64(), nil
}

// cutMeasure cuts the first number and its unit off text. The number is empty
// if text does not start with a decimal one.
func cutMeasure(text string) (number, name, rest string) {
	digits := func(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }
	n := digits(text)
	if n > 0 && strings.HasPrefix(text[n:], ".") {
		fraction := digits(text[n+1:])
		if fraction == 0 {
			return "", "", text
		}
		n += 1 + fraction
	}
	number, rest = text[:n], text[n:]
	end := strings.IndexAny(rest, "0123456789")
	if end < 0 {
		end = len(rest)
	}
	return number, rest[:end], rest[end:]
}

// findUnit returns the size of a unit.
func findUnit(units []unit, name string) (int64, error) {
	if name == "" {
		return 0, errNoUnit
	}
	for _, u := range units {
		if u.name == name {
			return u.size, nil
		}
	}
	return 0, &unitError{name}
}

// suggestUnit returns the unit that was meant by name, or nothing. Only
// spellings that leave no doubt have one.
func suggestUnit(units []unit, name string) string {
	name = strings.TrimSpace(name)
	for _, u := range units {
		if strings.EqualFold(u.name, name) || slices.Contains(u.also, strings.ToLower(name)) {
			return u.name
		}
	}
	return ""
}

// FormatDuration writes d, which is not negative, as people do: in whole days,
// hours, minutes and seconds, or with the finest unit that it needs.
func FormatDuration(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	var b strings.Builder
	rest := int64(d)
	if rest%int64(time.Second) == 0 || rest > int64(time.Minute) {
		for _, u := range durationUnits()[1:5] { // d to s; weeks are harder to read
			if n := rest / u.size; n > 0 {
				fmt.Fprintf(&b, "%d%s", n, u.name)
				rest %= u.size
			}
		}
	}
	switch {
	case rest == 0:
	case rest%int64(time.Millisecond) == 0:
		fmt.Fprintf(&b, "%dms", rest/int64(time.Millisecond))
	default:
		fmt.Fprintf(&b, "%dus", rest/int64(time.Microsecond))
	}
	return b.String()
}

// String writes s with the largest unit of 1024 that leaves a whole number, or
// in bytes.
func (s Size) String() string {
	switch s {
	case 0:
		return "0"
	case Auto:
		return "auto"
	}
	for _, u := range sizeUnits() {
		if strings.HasSuffix(u.name, "iB") && int64(s)%u.size == 0 {
			return strconv.FormatInt(int64(s)/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
