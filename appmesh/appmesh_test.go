package appmesh

import (
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"patchbay/appmesh/model"
	"patchbay/declare"
)

var update = flag.Bool("update", false, "write the golden files")

func archives(t testing.TB) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) < 3 {
		t.Fatalf("%d archives: %v", len(names), err)
	}
	return names
}

func inputs(a *txtar.Archive) (files []model.File) {
	for _, f := range a.Files {
		if strings.HasPrefix(f.Name, "in/") {
			files = append(files, model.File{Name: f.Name, Text: f.Data})
		}
	}
	return files
}

// TestImport: what meshes amount to, and what is said of them.
func TestImport(t *testing.T) {
	for _, name := range archives(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := &txtar.Archive{Comment: a.Comment}
			for _, f := range a.Files {
				if strings.HasPrefix(f.Name, "in/") {
					got.Files = append(got.Files, f)
				}
			}
			r, err := Import(Options{}, inputs(a)...)
			report := ""
			if err != nil {
				report = err.Error() + "\n"
			} else {
				for _, d := range r.Declarations {
					if _, err := declare.Parse(d.Text); err != nil {
						t.Errorf("%s: %v", d.Name, err)
					}
					got.Files = append(got.Files, txtar.File{Name: "out/" + d.Name + ".json", Data: d.Text})
				}
				for _, n := range r.Notes {
					report += n.String() + "\n"
				}
			}
			got.Files = append(got.Files, txtar.File{Name: "out/report", Data: []byte(report)})
			text := txtar.Format(got)
			if *update {
				if err := os.WriteFile(name, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(string(txtar.Format(a)), string(text)); d != "" {
				t.Error(d)
			}
		})
	}
}

// FuzzImport: no text panics, and whatever is made of it is a declaration.
func FuzzImport(f *testing.F) {
	for _, name := range archives(f) {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		var all []byte
		for _, in := range inputs(a) {
			all = append(all, in.Text...)
			f.Add(in.Text)
		}
		f.Add(all)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Import(Options{}, model.File{Name: "f", Text: text})
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		seen := map[string]bool{}
		for _, d := range r.Declarations {
			if seen[d.Name] {
				t.Fatalf("%s twice", d.Name)
			}
			seen[d.Name] = true
			if _, err := declare.Parse(d.Text); err != nil {
				t.Fatalf("%v in\n%s", err, d.Text)
			}
		}
		if n := r.Count(Lost) + r.Count(Differs) + r.Count(Hint); n != len(r.Notes) {
			t.Fatalf("%d of %d notes have a kind", n, len(r.Notes))
		}
	})
}

// Shells of Windows write a byte order mark, and some of them UTF-16.
func TestByteOrderMarks(t *testing.T) {
	const text = `{"virtualNode": {"meshName": "m", "virtualNodeName": "nödé", "spec": {"listeners": [{"portMapping": {"port": 80, "protocol": "http"}}]}}}`
	for name, in := range map[string][]byte{
		"UTF-8":                  []byte("\ufeff" + text),
		"UTF-16, little endian":  utf16Of(binary.LittleEndian, "\ufeff"+text+"\r\n"),
		"UTF-16, big endian":     utf16Of(binary.BigEndian, "\ufeff"+text),
		"none":                   []byte(text),
		"a byte too many at end": append(utf16Of(binary.LittleEndian, "\ufeff"+text), 0),
	} {
		r, err := Import(Options{}, model.File{Name: "f", Text: in})
		if err != nil || len(r.Declarations) != 1 || r.Declarations[0].Of != "virtualNode/nödé" {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func utf16Of(order binary.AppendByteOrder, s string) (out []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		out = order.AppendUint16(out, u)
	}
	return out
}
