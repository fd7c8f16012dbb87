package hosts

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const before = "127.0.0.1\tlocalhost\n::1 localhost ip6-localhost\n10.0.0.5 web-1 # the task\n"

func temp(t testing.TB, content string) *File {
	t.Helper()
	f := &File{Path: filepath.Join(t.TempDir(), "hosts")}
	if err := os.WriteFile(f.Path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t testing.TB, f *File) string {
	t.Helper()
	b, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func entry(name, addr string) Entry { return Entry{name, netip.MustParseAddr(addr)} }

func set(t testing.TB, f *File, entries ...Entry) Result {
	t.Helper()
	res, err := f.Set(entries)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestAppendsAndRemovesInEqualLength(t *testing.T) {
	f := temp(t, before)
	inode := func() os.FileInfo {
		i, err := os.Stat(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	first := inode()
	set(t, f, entry("api.demo", "127.128.1.1"), entry("web.demo", "127.128.1.2"))
	full := read(t, f)
	if !strings.HasPrefix(full, before) || !strings.Contains(full, "127.128.1.1     api.demo # patchbay") {
		t.Fatalf("%q", full)
	}
	if res := set(t, f, entry("api.demo", "127.128.1.1"), entry("web.demo", "127.128.1.2")); res.Written != 0 {
		t.Errorf("%d writes for nothing", res.Written)
	}
	set(t, f, entry("web.demo", "127.128.1.2"))
	gone := read(t, f)
	if len(gone) != len(full) || strings.Contains(gone, "api.demo") || !strings.HasPrefix(gone, before) {
		t.Fatalf("%q", gone)
	}
	set(t, f, entry("web.demo", "127.128.9.9"), entry("new.demo", "127.128.1.3"))
	again := read(t, f)
	if len(again) != len(full) || !strings.Contains(again, "127.128.9.9     web.demo") || !strings.Contains(again, "127.128.1.3     new.demo") || strings.Contains(again, "127.128.1.2") {
		t.Fatalf("%q", again)
	}
	if !os.SameFile(first, inode()) {
		t.Error("the file was replaced")
	}
}

// A name may stand for an address and for the form of it that IPv6 has, each in
// a line of its own; who has one of them in a line of his own has both.
func TestANameInBothForms(t *testing.T) {
	f := temp(t, before+"127.128.1.9 theirs\n")
	both := func(e Entry) []Entry { return []Entry{e, e.Mapped()} }
	api, web := both(entry("api.demo", "127.128.1.1")), both(entry("web.demo", "127.128.1.2"))
	all := slices.Concat(api, web, both(entry("theirs", "127.128.1.9")))
	if r := set(t, f, all...); r.Written != 4 || len(r.Refused) > 0 {
		t.Errorf("%+v", r)
	}
	text := read(t, f)
	for _, line := range []string{"127.128.1.1     api.demo # patchbay", "::ffff:127.128.1.1 api.demo # patchbay"} {
		if strings.Count(text, "\n"+line) != 1 {
			t.Errorf("no line %q once in\n%s", line, text)
		}
	}
	if r := set(t, f, all...); r.Written != 0 {
		t.Errorf("the same again: %+v", r)
	}
	set(t, f, slices.Concat(api, web[:1])...)
	if got, err := f.Entries(); err != nil || !slices.Equal(got, slices.Concat(api, web[:1])) {
		t.Errorf("%v, %v", got, err)
	}
	set(t, f)
	if got, err := f.Entries(); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	if r := set(t, f, both(entry("web-1", "127.128.1.3"))...); len(r.Refused) != 2 || r.Refused[0] != r.Refused[1] {
		t.Errorf("a name of somebody else: %+v", r)
	}
}

func TestLastLineWithoutNewline(t *testing.T) {
	f := temp(t, "127.0.0.1 localhost")
	set(t, f, entry("a.demo", "127.128.1.1"))
	if got := read(t, f); !strings.HasPrefix(got, "127.0.0.1 localhost\n127.128.1.1     a.demo # patchbay ") {
		t.Fatalf("%q", got)
	}
}

func TestRefusals(t *testing.T) {
	f := temp(t, before+"10.9.9.9 Taken.demo\n127.128.1.7 same.demo\n")
	res := set(t, f,
		entry("ok.demo", "127.128.1.1"), entry("taken.demo", "127.128.1.2"), entry("same.demo", "127.128.1.7"),
		entry("localhost", "127.128.1.3"), entry("far.demo", "10.1.1.1"), entry("a b", "127.128.1.4"),
		entry("x\n10.0.0.1 bank", "127.128.1.5"), Entry{Name: "none.demo"})
	if len(res.Refused) != 6 || res.Written != 1 {
		t.Fatalf("%+v", res)
	}
	if !strings.Contains(strings.Join(res.Refused, "\n"), "taken.demo: the hosts file already says 10.9.9.9 in a line that is not ours (line 4)") {
		t.Errorf("%q", res.Refused)
	}
	if got := read(t, f); strings.Count(got, "\n") != 6 || strings.Contains(got, "bank") {
		t.Errorf("%q", got)
	}
}

func TestRegeneratedFile(t *testing.T) {
	f := temp(t, before)
	names := []Entry{entry("a.demo", "127.128.1.1"), entry("b.demo", "127.128.1.2")}
	set(t, f, names...)
	if got, err := f.Entries(); err != nil || !slices.Equal(got, names) {
		t.Fatal(got, err)
	}
	if err := os.WriteFile(f.Path, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	if ok, err := f.Has(names); err != nil || ok {
		t.Fatal(ok, err)
	}
	set(t, f, names...)
	if ok, err := f.Has(names); err != nil || !ok {
		t.Fatal(ok, err)
	}
}

func TestWriteTest(t *testing.T) {
	f := temp(t, before)
	for range 3 {
		if err := f.Test(); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, f); strings.Count(got, "\n") != 4 || !strings.HasPrefix(got, before) {
		t.Fatalf("%q", got)
	}
	set(t, f, entry("a.demo", "127.128.1.1")) // takes the line that the test left
	if got := read(t, f); strings.Count(got, "\n") != 4 {
		t.Fatalf("%q", got)
	}
	if err := (&File{Path: filepath.Join(t.TempDir(), "none")}).Test(); err == nil {
		t.Error("a missing file passed")
	}
}

// What the owner's truncation in the moment of a write leaves behind.
func TestHoleIsRepaired(t *testing.T) {
	f := temp(t, "127.0.0.1 localhost\n\x00\x00\x00\x00\x00127.128.1.1 x\n")
	set(t, f, entry("a.demo", "127.128.1.2"))
	got := read(t, f)
	if strings.Contains(got, "\x00") || !strings.HasPrefix(got, "127.0.0.1 localhost\n\n\n\n\n\n127.128.1.1 x\n127.128.1.2") {
		t.Fatalf("%q", got)
	}
}

// foreign is the text without the lines of ours.
func foreign(text []byte) string {
	var out []string
	for _, l := range parse(text) {
		if !l.ours {
			out = append(out, string(text[l.start:l.end]))
		}
	}
	return strings.Join(out, "\n")
}

// FuzzSet holds the rules on any file, through several changes: others' lines
// stay as they were, the file never shrinks, and in the end exactly the names
// wanted stand in it.
func FuzzSet(f *testing.F) {
	for _, s := range []string{before, "", "x", "127.0.0.1 a # patchbay", "# free # patchbay\n", "127.1.1.1 n3.demo # patchbay\n127.1.1.1 n3.demo # patchbay\n", "\n\n#\n", "127.128.0.1 n1.demo\r\n"} {
		f.Add([]byte(s), uint64(1))
	}
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		text = bytes.ReplaceAll(text, []byte{0}, []byte{'0'}) // holes are another test's
		file := temp(t, string(text))
		rnd := rand.New(rand.NewPCG(seed, 1))
		was := foreign(append(bytes.Clone(text), '\n'))
		size := len(text)
		for range 4 {
			var entries []Entry
			for n := range 8 {
				if rnd.IntN(2) == 0 {
					entries = append(entries, entry(fmt.Sprintf("n%d.%s", n, strings.Repeat("d", 1+rnd.IntN(60))), fmt.Sprintf("127.128.1.%d", rnd.IntN(9))))
				}
			}
			res := set(t, file, entries...)
			got := []byte(read(t, file))
			if len(got) < size {
				t.Fatalf("the file shrank from %d to %d", size, len(got))
			}
			size = len(got)
			// A line of ours that was cut off counts as another's until it is whole.
			set(t, file, entries...)
			got = []byte(read(t, file))
			if d := cmp.Diff(strings.TrimRight(was, "\n"), strings.TrimRight(foreign(got), "\n")); d != "" {
				t.Fatalf("lines of others changed (-was +is)\n%s\nfile: %q", d, got)
			}
			have, err := file.Entries()
			if err != nil {
				t.Fatal(err)
			}
			if len(have)+len(res.Refused) > len(entries) || len(res.Refused) == 0 && !allThere(got, entries) {
				t.Fatalf("have %v, want %v, refused %v", have, entries, res.Refused)
			}
		}
	})
}

// allThere reports whether some line says each entry.
func allThere(text []byte, entries []Entry) bool {
	for _, e := range entries {
		if !slices.ContainsFunc(parse(text), func(l line) bool { return l.entry.Addr == e.Addr && slices.Contains(l.names, e.Name) || l.entry == e }) {
			return false
		}
	}
	return true
}
