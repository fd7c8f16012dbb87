package envoy

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
)

// logFormat is level, component, message; one line each because escaped.
const logFormat = "%l|%n|%v"

// maxLine is where a longer line is cut.
const maxLine = 4 << 10

// lines passes Envoy's log on, line by line, at its own levels.
type lines struct {
	log *slog.Logger
	mu  sync.Mutex
	buf []byte
}

// Write never fails: a log must not stop Envoy.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			if len(l.buf) < maxLine {
				l.buf = append(l.buf, p...)
			}
			return n, nil
		}
		l.emit(append(l.buf, p[:i]...))
		l.buf, p = l.buf[:0], p[i+1:]
	}
}

// flush passes on a last line without newline.
func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.emit(l.buf)
	l.buf = nil
}

func (l *lines) emit(b []byte) {
	text := strings.TrimSpace(string(b[:min(len(b), maxLine)]))
	if text == "" {
		return
	}
	level, attrs := slog.LevelWarn, []any{} // what has no form of a log line: a crash, a wrong flag
	if f := strings.SplitN(text, "|", 3); len(f) == 3 {
		if known, ok := levels[f[0]]; ok {
			level, attrs, text = known, append(attrs, "component", f[1]), f[2]
		}
	}
	attrs = append(attrs, "line", text)
	switch level {
	case slog.LevelDebug:
		l.log.Debug("envoy", attrs...)
	case slog.LevelInfo:
		l.log.Info("envoy", attrs...)
	case slog.LevelWarn:
		l.log.Warn("envoy", attrs...)
	default:
		l.log.Error("envoy", attrs...)
	}
}

var levels = map[string]slog.Level{
	"trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo,
	"warning": slog.LevelWarn, "error": slog.LevelError, "critical": slog.LevelError,
}
