package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"patchbay/audit"
)

func open(t *testing.T, path string) *audit.Log {
	t.Helper()
	l, err := audit.Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func event(i int) audit.Event {
	return audit.Event{
		Kind: audit.CertificateIssued, Actor: "control plane", Subject: fmt.Sprintf("s%d.prod", i), Issuer: "default", SANs: []string{fmt.Sprintf("s%d.prod", i)},
		Serial: fmt.Sprintf("%x", i), NotAfter: time.Unix(1e9, 0), Decision: audit.Allowed,
	}
}

// written is a closed log of n events; with the line of its opening it has
// n+1 lines.
func written(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, path)
	for i := range n {
		l.Record(event(i))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func verify(t *testing.T, path string) audit.Report {
	t.Helper()
	r, err := audit.Verify(path, audit.Anchor{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func text(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWholeLog(t *testing.T) {
	path := written(t, 20)
	l := open(t, path) // goes on
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 25 {
				l.Record(event(i*100 + j))
			}
		})
	}
	all.Wait()
	st := l.Status()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r := verify(t, path)
	if len(r.Problems) > 0 || len(r.Notes) > 0 || r.Lines != 222 || r.Seq != st.Seq || r.Hash != st.Hash || st.Lost != 0 {
		t.Errorf("%+v; status %+v", r, st)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if r, err := audit.Verify(path, audit.Anchor{Seq: st.Seq, Hash: st.Hash}); err != nil || len(r.Problems) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Whatever somebody does to the file is found, and named by its line.
func TestTampering(t *testing.T) {
	edit := func(f func(lines [][]byte) [][]byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			out := bytes.Join(f(bytes.SplitAfter(text(t, path), []byte("\n"))), nil)
			if err := os.WriteFile(path, out, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, x := range map[string]struct {
		tamper func(*testing.T, string)
		want   string
	}{
		"edited": {edit(func(l [][]byte) [][]byte {
			l[6] = bytes.Replace(l[6], []byte("s5.prod"), []byte("s9.prod"), 1)
			return l
		}), "line 7: its content is not what its hash says: it was edited"},
		"one bit":  {edit(func(l [][]byte) [][]byte { l[6][40] ^= 1; return l }), "line 7: "},
		"deleted":  {edit(func(l [][]byte) [][]byte { return slices.Delete(l, 6, 7) }), "line 7: it is number 8, after number 6: 1 missing between them"},
		"three":    {edit(func(l [][]byte) [][]byte { return slices.Delete(l, 3, 6) }), "line 4: it is number 7, after number 3: 3 missing between them"},
		"first":    {edit(func(l [][]byte) [][]byte { return l[1:] }), "line 1: it is number 2, after number 0: 1 missing between them"},
		"swapped":  {edit(func(l [][]byte) [][]byte { l[6], l[7] = l[7], l[6]; return l }), "line 7: it is number 8, after number 6"},
		"doubled":  {edit(func(l [][]byte) [][]byte { return slices.Insert(l, 7, l[6]) }), "line 8: it is number 7, after number 7: it was moved here, or written twice"},
		"inserted": {edit(func(l [][]byte) [][]byte { return slices.Insert(l, 7, []byte("{\"seq\":8}\n")) }), "line 8: it does not end with a hash"},
		"cut":      {edit(func(l [][]byte) [][]byte { return l[:9] }), "line 9: the log ends with number 9, but it went to number 11 by its head: its end was cut off"},
		"emptied":  {edit(func([][]byte) [][]byte { return nil }), "line 0: the log ends with number 0, but it went to number 11 by its head: its end was cut off"},
		"replaced by another, with its head": {func(t *testing.T, path string) {
			other := written(t, 30)
			for _, s := range []string{"", ".head"} {
				if err := os.Rename(other+s, path+s); err != nil {
					t.Fatal(err)
				}
			}
		}, "number 11 is not the line that it was by what was noted elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			path := written(t, 10)
			noted := verify(t, path)
			x.tamper(t, path)
			r, err := audit.Verify(path, audit.Anchor{Seq: noted.Seq, Hash: noted.Hash})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(fmt.Sprint(r.Problems), x.want) {
				t.Errorf("found %q; want %q", r.Problems, x.want)
			}
			open(t, path).Close() // a control plane that starts on it can't make it good
			if r := verify(t, path); len(r.Problems) == 0 && !strings.Contains(name, "head") {
				t.Error("good again after a start")
			}
		})
	}
}

// A copy without its head proves what was noted, and alone proves nothing.
func TestWithoutItsHead(t *testing.T) {
	path := written(t, 10)
	noted := verify(t, path)
	if err := os.Remove(path + ".head"); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, path); !strings.Contains(fmt.Sprint(r.Problems), "audit.log.head is missing") {
		t.Errorf("without anything noted: %+v", r)
	}
	r, err := audit.Verify(path, audit.Anchor{Seq: noted.Seq, Hash: noted.Hash})
	if err != nil || len(r.Problems) > 0 || !strings.Contains(fmt.Sprint(r.Notes), "audit.log.head is missing") {
		t.Errorf("with what was noted: %+v, %v", r, err)
	}
	if r, err := audit.Verify(path, audit.Anchor{Seq: noted.Seq + 1, Hash: noted.Hash}); err != nil || len(r.Problems) == 0 {
		t.Errorf("shorter than what was noted: %+v, %v", r, err)
	}
}

// A line with a hash of its own that fits, in the place of another, is found
// by the next one.
func TestForgedLine(t *testing.T) {
	path, other := written(t, 10), written(t, 10)
	mine, theirs := bytes.SplitAfter(text(t, path), []byte("\n")), bytes.SplitAfter(text(t, other), []byte("\n"))
	mine[5] = theirs[5]
	if err := os.WriteFile(path, bytes.Join(mine, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, path); len(r.Problems) != 2 || r.Problems[0].Line != 6 || r.Problems[1].Line != 7 {
		t.Errorf("%v", r.Problems)
	}
}

// A crash at any byte of a line costs that line and nothing else.
func TestCrashInTheMiddleOfALine(t *testing.T) {
	path := written(t, 3)
	whole := text(t, path)
	heads := text(t, path+".head")
	l := open(t, path) // a line more, of which the crash leaves a part
	l.Close()
	more := text(t, path)
	for cut := len(whole); cut <= len(more); cut += 7 {
		at := filepath.Join(t.TempDir(), "audit.log")
		if err := os.WriteFile(at, more[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at+".head", heads, 0o600); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, at); len(r.Problems) > 0 || (cut > len(whole)) != (len(r.Notes) == 1) {
			t.Fatalf("cut at %d, before the start: %+v", cut, r)
		}
		l := open(t, at)
		l.Record(event(1))
		l.Close()
		r := verify(t, at)
		if len(r.Problems) > 0 {
			t.Fatalf("cut at %d: %v", cut, r.Problems)
		}
		if torn := cut > len(whole); torn != strings.Contains(fmt.Sprint(r.Notes), "of an unfinished line were cut off") {
			t.Errorf("cut at %d: notes %v", cut, r.Notes)
		}
		if got := text(t, at); !bytes.HasPrefix(got, whole) {
			t.Fatalf("cut at %d: what was there is not there any more", cut)
		}
	}
}

// TestMain is also the process that the next test kills.
func TestMain(m *testing.M) {
	if path := os.Getenv("AUDIT_WRITE"); path != "" {
		l, err := audit.Open(path, slog.New(slog.DiscardHandler))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go l.Run(context.Background()) //nolint:errcheck // until it is killed
		for i := 0; ; i++ {
			l.Record(audit.Event{Kind: audit.Registered, Subject: fmt.Sprint(i)})
			fmt.Println(i)
		}
	}
	os.Exit(m.Run())
}

// A process that is killed while it writes loses nothing that it had
// recorded.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	recorded := 0
	for range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "AUDIT_WRITE="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		for seen := 0; seen < 4096; {
			n, err := out.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			seen += n
			recorded += bytes.Count(buf[:n], []byte("\n"))
		}
		cmd.Process.Kill() //nolint:errcheck // it runs
		cmd.Wait()         //nolint:errcheck // killed
	}
	r := verify(t, path)
	if len(r.Problems) > 0 || r.Lines < recorded {
		t.Errorf("%d lines, %d were recorded: %v", r.Lines, recorded, r.Problems)
	}
}

// A second process is refused: two would break each other's chain.
func TestOneWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	defer open(t, path).Close()
	if _, err := audit.Open(path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another process writes it") {
		t.Errorf("%v", err)
	}
}

// What strangers write is bounded and stays on its line.
func TestStrangersWords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, path)
	l.Record(audit.Event{Kind: audit.NodeRefused, Subject: "a\nb\",\"hash\":\"" + strings.Repeat("0", 64) + "\"}\n", Reason: strings.Repeat("é", 1e6)})
	l.Close()
	r := verify(t, path)
	if len(r.Problems) > 0 || r.Lines != 2 || len(text(t, path)) > 4000 {
		t.Errorf("%+v, %d bytes", r, len(text(t, path)))
	}
}

// What can't be written is in the process's own log, and counted.
func TestNotWritable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	var said bytes.Buffer
	l, err := audit.Open(path, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	l.Record(event(7))
	if !strings.Contains(said.String(), "s7.prod") || l.Status().Lost != 1 {
		t.Errorf("%s; %+v", said.String(), l.Status())
	}
	var none *audit.Log
	none.Record(event(1)) // records nothing
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte(`{"seq":1,"hash":"0000000000000000000000000000000000000000000000000000000000000000"}` + "\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "audit.log")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := audit.Verify(path, audit.Anchor{})
		if err == nil && len(r.Problems) == 0 && r.Lines > 0 {
			t.Error("a log without its head is good")
		}
	})
}

// A full disk keeps nobody from starting, and is told once.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("needs the right to mount:", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	path, fill := filepath.Join(dir, "audit.log"), filepath.Join(dir, "fill")
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	var said bytes.Buffer
	l, err := audit.Open(path, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	l.Record(event(1))
	if l.Status().Lost != 2 || !strings.Contains(said.String(), "s1.prod") {
		t.Errorf("%+v\n%s", l.Status(), said.String())
	}
	// Room for the line, none for the head.
	if err := os.Truncate(fill, 60<<10); err != nil {
		t.Fatal(err)
	}
	l.Record(event(2))
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	run := func(d time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		l.Run(ctx)
	}
	run(time.Second)
	if n := strings.Count(said.String(), "not on the disk yet"); n != 1 {
		t.Errorf("told %d times:\n%s", n, said.String())
	}
}
