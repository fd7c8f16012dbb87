package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// patience is how long a line waits for a reader that is only slow. Once one
	// has been lost, the next ones try for attempt.
	patience = time.Second
	attempt  = time.Millisecond
)

// Unblocked is f, unless that is a pipe. A pipe whose reader has stopped, such as
// a container's log driver that can't send, would stop every part of the process
// that has something to say, and it would not even end: lines that such a reader
// leaves standing are lost, and the first one that gets through says how many.
// Where the pipe can't be opened anew, it is f.
func Unblocked(f *os.File) io.Writer {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return f
	}
	// An open file of our own: not to block is a property of it, and others
	// that write to the pipe may want to.
	own, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return f
	}
	if own.SetWriteDeadline(time.Time{}) != nil {
		own.Close()
		return f
	}
	return &pipe{f: own}
}

// pipe is a writer of whole lines.
type pipe struct {
	mu   sync.Mutex
	f    *os.File
	lost int
	torn bool // half a line was written last
}

// missing is the line that says what was lost before b, and JSON where b is.
func missing(lines int, b []byte) []byte {
	form := "patchbay: %d lines are missing here: nobody read them\n"
	if len(b) > 0 && b[0] == '{' {
		form = `{"level":"WARN","msg":"lines are missing here: nobody read them","lines":%d}` + "\n"
	}
	return fmt.Appendf(nil, form, lines)
}

// Write implements [io.Writer]. It claims that what is lost was written: nobody
// could do anything about it.
func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait, text := patience, b
	if p.lost > 0 {
		wait, text = attempt, append(missing(p.lost, b), b...)
	}
	if p.torn {
		text = append([]byte("\n"), text...)
	}
	if err := p.f.SetWriteDeadline(time.Now().Add(wait)); err != nil {
		return 0, err
	}
	n, err := p.f.Write(text)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.lost++
		p.torn = p.torn && n == 0 || n > 0
		return len(b), nil
	case err != nil:
		return 0, err
	}
	p.lost, p.torn = 0, false
	return len(b), nil
}
