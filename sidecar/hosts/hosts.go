// Package hosts keeps names in a hosts file that others own.
//
// It owns the rules of writing to it. The containers of a task share the file
// as a bind mount, and Docker or the user writes to it too. So it is never
// truncated, renamed or replaced: a name is appended, or put into a line of
// ours that is free; a name is removed by overwriting its line in equal
// length; lines of others are never touched. It must not know where names come
// from. Start reading at [File.Set].
package hosts

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"patchbay/mesh"
)

// mark ends every line of ours. free begins one that holds no name; it is a
// comment for everyone else.
const (
	mark = "# patchbay"
	free = "# free"
)

// Entry is a name and an address that it stands for: one of 127.0.0.0/8, or the
// same in the form that it has for a socket of IPv6 ([Mapped]). A name may stand
// for one of each.
type Entry struct {
	Name string
	Addr netip.Addr
}

// Mapped is the entry for those who ask for an IPv6 address only. The kernel
// connects a socket of IPv6 to it by IPv4.
func (e Entry) Mapped() Entry { return Entry{e.Name, netip.AddrFrom16(e.Addr.As16())} }

// Compare orders by name, then by address.
func (e Entry) Compare(o Entry) int {
	return cmp.Or(cmp.Compare(e.Name, o.Name), e.Addr.Compare(o.Addr))
}

func (e Entry) check() error {
	if !mesh.ValidDNSName(e.Name) {
		return fmt.Errorf("%q is not a name that a hosts file may be given", e.Name)
	}
	if !e.Addr.Unmap().Is4() || !e.Addr.Unmap().IsLoopback() {
		return fmt.Errorf("%s: %s is not an address of 127.0.0.0/8", e.Name, e.Addr)
	}
	return nil
}

// File is a hosts file. It is safe for concurrent use within this process.
type File struct {
	Path string
	mu   sync.Mutex
}

// Result says what a Set did.
type Result struct {
	Written int      // lines added, changed or removed
	Refused []string // entries that can't stand in the file, each with the reason
}

// tries of a Set whose file changes under its hands.
const tries = 5

// Set makes the file hold exactly the entries given as lines of ours. Entries
// that are not fit for it, or whose name another's line defines otherwise, are
// refused; the rest is done. An error means that the file can't be read or
// written; what was written before it stays.
func (f *File) Set(entries []Entry) (Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var res Result
	for n := 1; ; n++ {
		res.Refused = nil
		err := f.set(entries, &res)
		if err == nil || n == tries || !errors.Is(err, errMoved) {
			return res, err
		}
	}
}

func (f *File) set(entries []Entry, res *Result) error {
	file, text, err := f.open()
	if err != nil {
		return err
	}
	defer file.Close()
	for _, e := range plan(text, accept(entries, parse(text), res)) {
		if err := e.apply(file, text); err != nil {
			return errors.Join(wrap(err, "hosts file %s", f.Path), repair(file))
		}
		res.Written++
	}
	return repair(file)
}

// Has reports whether the file holds exactly the entries that Set would leave.
func (f *File) Has(entries []Entry) (bool, error) {
	text, err := os.ReadFile(f.Path)
	if err != nil {
		return false, fmt.Errorf("read hosts file: %w", err)
	}
	return len(plan(text, accept(entries, parse(text), &Result{}))) == 0, nil
}

// Entries are the names that stand in the file as lines of ours, sorted: after
// a restart, those of before.
func (f *File) Entries() ([]Entry, error) {
	text, err := os.ReadFile(f.Path)
	if err != nil {
		return nil, fmt.Errorf("read hosts file: %w", err)
	}
	var out []Entry
	for _, l := range parse(text) {
		if l.ours && !l.free {
			out = append(out, l.entry)
		}
	}
	slices.SortFunc(out, Entry.Compare)
	return slices.Compact(out), nil
}

// Test finds out whether the file can be written to, by leaving one free line
// in it.
func (f *File) Test() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, text, err := f.open()
	if err != nil {
		return err
	}
	defer file.Close()
	for _, l := range parse(text) {
		if l.ours { // the same bytes again
			_, err := file.WriteAt(text[l.start:l.end], int64(l.start))
			return wrap(err, "write to hosts file %s", f.Path)
		}
	}
	return wrap(appendLine(file, freeLine(width)), "write to hosts file %s", f.Path)
}

func (f *File) open() (*os.File, []byte, error) {
	file, err := os.OpenFile(f.Path, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open hosts file: %w", err)
	}
	text, err := io.ReadAll(file)
	if err != nil {
		file.Close()
		return nil, nil, fmt.Errorf("read hosts file %s: %w", f.Path, err)
	}
	return file, text, nil
}

func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// accept returns the entries that may stand in the file.
func accept(entries []Entry, lines []line, res *Result) map[Entry]bool {
	foreign := map[string]line{}
	for _, l := range lines {
		if !l.ours {
			for _, n := range l.names {
				if _, dup := foreign[n]; !dup {
					foreign[n] = l
				}
			}
		}
	}
	want := map[Entry]bool{}
	for _, e := range entries {
		other, taken := foreign[e.Name]
		switch err := e.check(); {
		case err != nil:
			res.Refused = append(res.Refused, err.Error())
		case taken && other.entry.Addr.Unmap() == e.Addr.Unmap():
			// somebody else says the same
		case taken:
			res.Refused = append(res.Refused, fmt.Sprintf("%s: the hosts file already says %s in a line that is not ours (line %d)", e.Name, other.entry.Addr, other.number))
		default:
			want[e] = true
		}
	}
	return want
}

// line is one line of the file; start and end are byte offsets, without the
// newline.
type line struct {
	number     int
	start, end int
	ours, free bool
	entry      Entry    // of ours; else only the address
	names      []string // lower case
	whole      bool     // it ends in a newline
}

func parse(text []byte) []line {
	var out []line
	for at, n := 0, 1; at < len(text); n++ {
		end, next, whole := len(text), len(text), false
		if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
			end, next, whole = at+i, at+i+1, true
		}
		l := line{number: n, start: at, end: end, whole: whole}
		l.read(string(text[at:end]))
		out = append(out, l)
		at = next
	}
	return out
}

func (l *line) read(s string) {
	trimmed := strings.TrimRight(s, " ")
	content, comment, _ := strings.Cut(s, "#")
	fields := strings.Fields(content)
	if !l.whole {
		// Somebody may be in the middle of writing it: not ours.
	} else if body, is := strings.CutSuffix(trimmed, " "+mark); is && body != "" {
		l.free = strings.HasPrefix(s, free)
		l.ours = l.free && strings.TrimSpace(body) == free
		if !l.free && len(fields) == 2 && "#"+strings.TrimRight(comment, " ") == mark {
			a, err := netip.ParseAddr(fields[0])
			l.entry = Entry{fields[1], a}
			l.ours = err == nil && l.entry.check() == nil
		}
	}
	if len(fields) > 1 {
		l.entry.Addr, _ = netip.ParseAddr(fields[0])
		for _, n := range fields[1:] {
			l.names = append(l.names, strings.ToLower(n))
		}
	}
}

// errMoved says that the file is no longer what was read: its owner is writing
// to it. The caller tries again.
var errMoved = errors.New("it changed while it was being written to")
