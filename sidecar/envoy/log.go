package envoy

import (
	"bytes"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"
)

// logFormat is level, component, message; one line each because escaped.
const logFormat = "%l|%n|%v"

// maxLine is where a longer line is cut.
const maxLine = 4 << 10

// again is how often a line that comes over and over is passed on: while the
// control plane is away Envoy says so each second.
const again = time.Minute

// lines passes Envoy's log on, line by line, at its own levels. Lines that
// differ in numbers only are the same.
type lines struct {
	log *slog.Logger
	mu  sync.Mutex
	buf []byte
	// said is when a line, without its numbers, was passed on, and how often
	// it has come since. It holds at most maxSaid.
	said map[string]*repeated
}

type repeated struct {
	at    time.Time
	since int
}

const maxSaid = 100

var numbers = regexp.MustCompile(`[0-9]+`)

// repeats counts a line; how often it was held back since it was passed on
// last, or pass = false if it is to be held back now.
func (l *lines) repeats(text string) (held int, pass bool) {
	key, now := numbers.ReplaceAllString(text, "0"), time.Now()
	r := l.said[key]
	if r != nil && now.Sub(r.at) < again {
		r.since++
		return 0, false
	}
	if r != nil {
		held = r.since
	}
	if l.said == nil || len(l.said) >= maxSaid {
		l.said = map[string]*repeated{}
	}
	l.said[key] = &repeated{at: now}
	return held, true
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
	level, log := slog.LevelWarn, l.log // what has no form of a log line: a crash, a wrong flag
	if f := strings.SplitN(text, "|", 3); len(f) == 3 {
		if known, ok := levels[f[0]]; ok {
			level, log, text = known, log.With("component", f[1]), f[2]
		}
	}
	if strings.Contains(text, unlimited) {
		level = slog.LevelDebug
	}
	held, pass := l.repeats(text)
	if !pass {
		return
	}
	if log = log.With("line", text); held > 0 {
		log = log.With("repeated", held)
	}
	switch level {
	case slog.LevelDebug:
		log.Debug("envoy")
	case slog.LevelInfo:
		log.Info("envoy")
	case slog.LevelWarn:
		log.Warn("envoy")
	default:
		log.Error("envoy")
	}
}

// unlimited begins what Envoy warns of at each start. That there is none is meant:
// one number for callers' connections and the application's own fits no task.
const unlimited = "There is no configured limit to the number of allowed active downstream connections"

var levels = map[string]slog.Level{
	"trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo,
	"warning": slog.LevelWarn, "error": slog.LevelError, "critical": slog.LevelError,
}
