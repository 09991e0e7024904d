package bgp

import (
	"context"
	"log/slog"
)

// quiet returns a logger to log that passes on errors only.
func quiet(log *slog.Logger) *slog.Logger { return slog.New(onlyErrors{log.Handler()}) }

// onlyErrors is a handler that leaves out what is less than an error.
type onlyErrors struct{ slog.Handler }

// Enabled implements [slog.Handler].
func (h onlyErrors) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError && h.Handler.Enabled(ctx, l)
}

// WithAttrs implements [slog.Handler].
func (h onlyErrors) WithAttrs(attrs []slog.Attr) slog.Handler {
	return onlyErrors{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h onlyErrors) WithGroup(name string) slog.Handler { return onlyErrors{h.Handler.WithGroup(name)} }
