package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMedianAndPercentile(t *testing.T) {
	if got := Median([]float64{9, 1, 5}); got != 5 {
		t.Errorf("the median of three is %v", got)
	}
	if got := Median([]float64{4, 1, 2, 9}); got != 3 {
		t.Errorf("the median of four is %v", got)
	}
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = 100 - i
	}
	for q, want := range map[float64]int{0: 1, 0.5: 50, 0.99: 99, 0.999: 100, 1: 100} {
		if got := Percentile(hundred, q); got != want {
			t.Errorf("percentile %v is %v, want %v", q, got, want)
		}
	}
	if Median(nil) != 0 || Percentile([]int(nil), 0.5) != 0 {
		t.Error("nothing has a median")
	}
}

func TestGoals(t *testing.T) {
	p := &Part{}
	for _, v := range []float64{1, 2, 3} {
		p.Add("s", "ours", "cpu", "ms", v)
		p.Add("s", "theirs", "cpu", "ms", v*8)
	}
	v, ok := p.Ratio("s", "ours", "theirs", "cpu")
	p.AtMost(0.25, "×", "cheap", v, ok)
	p.AtLeast(0.25, "×", "dear", v, ok)
	v, ok = p.Ratio("s", "ours", "nobody", "cpu")
	p.AtMost(1, "×", "unknown", v, ok)
	for i, want := range []Goal{{Value: 0.125, Met: true, Known: true}, {Value: 0.125, Known: true}, {}} {
		if g := p.Goals[i]; g.Value != want.Value || g.Met != want.Met || g.Known != want.Known {
			t.Errorf("%+v", g)
		}
	}
}

func part(name string, value float64) *Part {
	p := &Part{Name: name, Title: "Part " + name, About: "About it.", Ran: time.Unix(0, 0), Machine: Machine{CPUs: 2, CPU: "some"}, Versions: map[string]string{"go": "1"}}
	p.Add("a scenario", "ours", "cost", "ms", value)
	p.Add("a scenario", "ours", "cost", "ms", value*1.2)
	p.Add("a scenario", "theirs", "size", "B", 12345678)
	p.AtMost(2, "ms", "a goal", value, true)
	return p
}

func TestWriteKeepsWhatWasNotRun(t *testing.T) {
	dir, order := t.TempDir(), []string{"first", "second"}
	file := filepath.Join(dir, MarkdownFile)
	if err := os.WriteFile(file, []byte("by hand\n"+begin+"\nold\n"+end+"\nbelow\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, parts := range [][]*Part{{part("second", 1)}, {part("first", 3)}, {part("second", 1.5)}} {
		if err := Write(dir, order, parts); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, want := range []string{
		"by hand\n" + begin, end + "\nbelow\n",
		"| a goal | ≤ 2 ms  | 3 ms    | missed |", "| a goal | ≤ 2 ms   | 1.5 ms  | met |",
		"| cost, ms | 1.65 (18 %, 2) | -          |", "12,345,678",
	} {
		if !strings.Contains(strings.Join(strings.Fields(text), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "old") || strings.Count(text, "## Part second") != 1 || strings.Index(text, "Part first") > strings.Index(text, "Part second") {
		t.Errorf("the page:\n%s", text)
	}
}

func TestWriteSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, MarkdownFile), []byte("no mark"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, nil, []*Part{part("first", 1)}); err == nil || !strings.Contains(err.Error(), begin) {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, JSONFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, nil, nil); err == nil || !strings.Contains(err.Error(), JSONFile) {
		t.Error(err)
	}
}

func TestWhatTheMachineSays(t *testing.T) {
	m := ThisMachine()
	if m.CPUs == 0 || m.RAM == 0 || m.Kernel == "" || m.System == "" {
		t.Errorf("%+v", m)
	}
	before := SelfCPU()
	x := 1
	for range 20_000_000 {
		x = x*31 + 7
	}
	if d := SelfCPU() - before; d <= 0 || x == 0 {
		t.Errorf("work took %v", d)
	}
	if rss, err := RSS(os.Getpid()); err != nil || rss < 1<<20 {
		t.Errorf("resident: %v, %v", rss, err)
	}
	if _, err := CPU(os.Getpid()); err != nil {
		t.Error(err)
	}
}
