package show

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// patience is how long nothing is said of work under way.
const patience = 2 * time.Second

// Wait says on a terminal that something takes its time, from two seconds on,
// and takes that away again when done is called. Elsewhere, such as in a file, it
// says nothing.
func Wait(w io.Writer, what string) (done func()) {
	if f, ok := w.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	return wait(w, what)
}

func wait(w io.Writer, what string) (done func()) {
	start, stop, ended := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		said := false
		for next := patience; ; next = time.Second {
			select {
			case <-stop:
				if said {
					fmt.Fprint(w, "\r\x1b[K")
				}
				return
			case <-time.After(next):
				said = true
				fmt.Fprintf(w, "\r\x1b[K%s… %.0f s", what, time.Since(start).Seconds())
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		<-ended
	})
}
