package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A reader that stops holds nobody up, hears afterwards what it has missed, and
// finds whole lines.
func TestAPipeThatNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := Unblocked(w)
	if out == io.Writer(w) {
		t.Fatal("the pipe could not be opened anew")
	}
	line := func(n int) []byte { return fmt.Appendf(nil, "line %d %s\n", n, strings.Repeat("x", 6000)) }
	const lines = 100 // far more than a pipe holds
	for n := range lines {
		if _, err := out.Write(line(n)); err != nil {
			t.Fatal(err)
		}
	}
	// The reader is back.
	missing, got := make(chan string), bufio.NewReader(r)
	go func() {
		defer close(missing)
		for {
			text, err := got.ReadString('\n')
			if err != nil {
				return
			}
			if strings.HasPrefix(text, "patchbay: ") {
				missing <- text
			}
		}
	}()
	said := ""
	for n := lines; said == ""; n++ {
		if _, err := out.Write(line(n)); err != nil {
			t.Fatal(err)
		}
		select {
		case said = <-missing:
		default:
		}
	}
	if !strings.HasSuffix(said, "lines are missing here: nobody read them\n") {
		t.Errorf("%q", said)
	}
	out.(*pipe).f.Close()
	w.Close()
	for range missing { // until the reader has ended
	}
}

// What is no pipe stays as it is: nothing of a file is ever lost.
func TestAFileIsWrittenAsItIs(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if out := Unblocked(f); out != io.Writer(f) {
		t.Errorf("%T", out)
	}
}

// A reader that reads gets everything, in order.
func TestAPipeThatIsRead(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out, got := Unblocked(w), make(chan []byte)
	go func() {
		all, _ := io.ReadAll(r)
		got <- all
	}()
	var want bytes.Buffer
	for n := range 50 {
		text := fmt.Appendf(nil, "line %d\n", n)
		want.Write(text)
		if _, err := out.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	out.(*pipe).f.Close()
	w.Close()
	if all := <-got; !bytes.Equal(all, want.Bytes()) {
		t.Errorf("%q", all)
	}
}
