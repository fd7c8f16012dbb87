package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// width is the least length of a line of ours, so that most free lines fit
// most names.
const width = 64

// edit is one change: bytes to put at an offset of what was read, in equal
// length; or a line to append.
type edit struct {
	at   int    // -1: append
	data string // without newline
}

// plan lists the edits that lead to want: first removals, which free lines,
// then additions.
func plan(text []byte, want map[Entry]bool) []edit {
	var edits []edit
	lines := parse(text)
	var room []line
	have := map[Entry]bool{}
	for _, l := range lines {
		switch {
		case !l.ours:
		case l.free:
			room = append(room, l)
		case want[l.entry] && !have[l.entry]:
			have[l.entry] = true
		default:
			room = append(room, l)
			edits = append(edits, edit{l.start, freeLine(l.end - l.start)})
		}
	}
	var add []Entry
	for e := range want {
		if !have[e] {
			add = append(add, e)
		}
	}
	slices.SortFunc(add, Entry.Compare)
	for _, e := range add {
		s := nameLine(e)
		i := slices.IndexFunc(room, func(l line) bool { return l.end-l.start >= len(strings.TrimRight(s, " ")) })
		if i < 0 {
			edits = append(edits, edit{-1, s})
			continue
		}
		// One write takes the old name out and puts the new one in.
		l := room[i]
		room = slices.Delete(room, i, i+1)
		edits = slices.DeleteFunc(edits, func(x edit) bool { return x.at == l.start })
		edits = append(edits, edit{l.start, pad(strings.TrimRight(s, " "), l.end-l.start)})
	}
	return edits
}

func nameLine(e Entry) string { return pad(fmt.Sprintf("%-15s %s %s", e.Addr, e.Name, mark), width) }

// freeLine has n bytes; every line of ours is long enough for it.
func freeLine(n int) string { return pad(free+" "+mark, n) }

func pad(s string, n int) string { return s + strings.Repeat(" ", max(0, n-len(s))) }

// apply makes the edit, if the place still looks as it did in text.
func (e edit) apply(file *os.File, text []byte) error {
	if e.at < 0 {
		return appendLine(file, e.data)
	}
	was := text[e.at : e.at+len(e.data)+1] // with the newline
	now := make([]byte, len(was))
	if n, err := file.ReadAt(now, int64(e.at)); n < len(now) || !bytes.Equal(now, was) {
		if err != nil && err != io.EOF {
			return err
		}
		return errMoved
	}
	_, err := file.WriteAt([]byte(e.data), int64(e.at))
	return err
}

// appendLine adds a line at the end of the file as it is now, in one write: the
// kernel finds the end. A last line without a newline gets one first.
func appendLine(file *os.File, s string) error {
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	s += "\n"
	if end > 0 {
		var last [1]byte
		if _, err := file.ReadAt(last[:], end-1); err != nil {
			return errMoved
		}
		if last[0] != '\n' {
			s = "\n" + s
		}
	}
	to, err := os.OpenFile(file.Name(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	if same, err := sameFile(file, to); err != nil || !same {
		return errors.Join(err, errMoved)
	}
	_, err = to.WriteString(s)
	return err
}

func sameFile(a, b *os.File) (bool, error) {
	x, err := a.Stat()
	if err != nil {
		return false, err
	}
	y, err := b.Stat()
	return err == nil && os.SameFile(x, y), err
}

// repair fills what a write of ours left empty because the owner truncated the
// file in that moment: such bytes would hide the line that follows them.
func repair(file *os.File) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("hosts file %s: %w", file.Name(), err)
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return fmt.Errorf("read hosts file %s: %w", file.Name(), err)
	}
	for at := 0; ; {
		i := bytes.IndexByte(text[at:], 0)
		if i < 0 {
			return nil
		}
		start := at + i
		for at = start; at < len(text) && text[at] == 0; at++ {
		}
		if _, err := file.WriteAt(bytes.Repeat([]byte{'\n'}, at-start), int64(start)); err != nil {
			return fmt.Errorf("hosts file %s: %w", file.Name(), err)
		}
	}
}
