package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxLine is far above the longest that [Log.Record] writes.
const maxLine = 1 << 20

// lines calls f for each whole line, without its end, and returns what follows
// the last one and where that begins.
func lines(r io.Reader, f func(number int, text []byte)) (torn []byte, end int64, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	for number := 1; ; number++ {
		var text []byte
		for {
			part, err := in.ReadSlice('\n')
			if text = append(text, part...); !errors.Is(err, bufio.ErrBufferFull) {
				if err == io.EOF {
					return text, end, nil
				}
				if err != nil {
					return nil, end, err
				}
				break
			}
			if len(text) > maxLine {
				return nil, end, fmt.Errorf("line %d has more than 1 MiB: this is no audit log", number)
			}
		}
		end += int64(len(text))
		f(number, text[:len(text)-1])
	}
}

// split takes a line and its hash apart. The hash is that of the bytes, so
// that nothing depends on how JSON may be written.
func split(text []byte) (line, string, error) {
	const tail = `,"hash":"`
	i := bytes.LastIndex(text, []byte(tail))
	if i < 0 || len(text) != i+len(tail)+len(zeros)+2 || !bytes.HasSuffix(text, []byte(`"}`)) {
		return line{}, "", errors.New("it does not end with a hash")
	}
	var v line
	body := append(bytes.Clone(text[:i]), '}')
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return line{}, "", fmt.Errorf("it is not an event: %w", err)
	}
	hash := string(text[i+len(tail) : len(text)-2])
	if got := hashOf(body); got != hash {
		return v, hash, errEdited
	}
	return v, hash, nil
}

var errEdited = errors.New("its content is not what its hash says: it was edited")

// Problem is something that is wrong with a log.
type Problem struct {
	Line int // of the file, from 1
	Text string
}

func (p Problem) String() string { return fmt.Sprintf("line %d: %s", p.Line, p.Text) }

// Report is what [Verify] found.
type Report struct {
	Lines    int
	Seq      uint64 // of the last line
	Hash     string
	Problems []Problem
	Notes    []Problem // nothing wrong, but worth knowing: crashes that the log itself tells of
}

// Anchor is a state of the log that was noted elsewhere; zero: none.
type Anchor struct {
	Seq  uint64
	Hash string
}

// Verify checks the log at path: that each line is as it was written, that
// none is missing, added or moved, and that it goes as far as its head, and
// anchor, say. It may be done while the log is written. The error is about
// reading the file alone.
func Verify(path string, anchor Anchor) (Report, error) {
	known, there, headErr := readHead(path) // before the log: lines may come meanwhile
	f, err := os.Open(path)
	if err != nil {
		return Report{}, fmt.Errorf("audit log: %w", err)
	}
	defer f.Close()
	c := checker{report: Report{Hash: zeros}, anchor: anchor, hashes: map[uint64]string{}}
	if there {
		c.hashes[known.Seq] = ""
	}
	if anchor.Seq > 0 {
		c.hashes[anchor.Seq] = ""
	}
	torn, _, err := lines(f, c.line)
	if err != nil {
		return Report{}, fmt.Errorf("audit log %s: %w", path, err)
	}
	r := &c.report
	if len(torn) > 0 {
		r.Notes = append(r.Notes, Problem{r.Lines + 1, fmt.Sprintf("the file ends with %d bytes of an unfinished line: a crash, or a write that is under way; the next start cuts it off", len(torn))})
	}
	switch {
	case headErr != nil:
		c.wrong(r.Lines, "%v", headErr)
	case !there && r.Lines > 0 && anchor.Seq > 0:
		r.Notes = append(r.Notes, Problem{r.Lines, fmt.Sprintf("%s is missing: whether lines came after line %d, which was noted elsewhere, nothing says", path+headSuffix, anchor.Seq)})
	case !there && r.Lines > 0:
		c.wrong(r.Lines, "%s is missing: nothing says how far the log should go; copy it with the log, or say with --noted what was noted elsewhere", path+headSuffix)
	case there:
		c.reaches(known.Seq, known.Hash, "its head")
	}
	if anchor.Seq > 0 {
		c.reaches(anchor.Seq, anchor.Hash, "what was noted elsewhere")
	}
	return c.report, nil
}

type checker struct {
	report Report
	anchor Anchor
	hashes map[uint64]string // of the lines that are asked about
}

func (c *checker) wrong(line int, format string, args ...any) {
	c.report.Problems = append(c.report.Problems, Problem{line, fmt.Sprintf(format, args...)})
}

func (c *checker) line(number int, text []byte) {
	r := &c.report
	r.Lines = number
	v, hash, err := split(text)
	if err != nil && !errors.Is(err, errEdited) {
		c.wrong(number, "%v", err)
		r.Hash = hashOf(text) // what follows is judged by itself
		r.Seq++
		return
	}
	if err != nil {
		c.wrong(number, "%v", err)
	}
	want := r.Seq + 1
	switch {
	case v.Seq == want && v.Previous == r.Hash:
	case v.Seq > want:
		c.wrong(number, "it is number %d, after number %d: %d missing between them", v.Seq, r.Seq, v.Seq-want)
	case v.Seq < want:
		c.wrong(number, "it is number %d, after number %d: it was moved here, or written twice", v.Seq, r.Seq)
	default:
		c.wrong(number, "it does not follow the line before, whose hash is %s: one of the two was replaced", short(r.Hash))
	}
	r.Seq, r.Hash = v.Seq, hash
	if _, asked := c.hashes[v.Seq]; asked {
		c.hashes[v.Seq] = hash
	}
	switch v.Kind {
	case logTorn:
		r.Notes = append(r.Notes, Problem{number, v.Reason})
	case logBroken:
		c.wrong(number, "when the control plane started at %s: %s", v.Time.Format("2006-01-02T15:04:05Z"), v.Reason)
	}
}

// reaches says what is wrong if the log does not hold a line that it held.
func (c *checker) reaches(seq uint64, hash, by string) {
	switch got := c.hashes[seq]; {
	case got == hash:
	case got == "" && seq > 0:
		c.wrong(c.report.Lines, "the log ends with number %d, but it went to number %d by %s: its end was cut off", c.report.Seq, seq, by)
	case seq > 0:
		c.wrong(c.report.Lines, "number %d is not the line that it was by %s (%s, now %s)", seq, by, short(hash), short(got))
	}
}

func short(hash string) string { return hash[:min(16, len(hash))] + "…" }

// ParseAnchor reads SEQ:HASH.
func ParseAnchor(s string) (Anchor, error) {
	var a Anchor
	seq, hash, ok := strings.Cut(s, ":")
	if _, err := fmt.Sscanf(seq, "%d", &a.Seq); err != nil || !ok || a.Seq == 0 || len(hash) != len(zeros) || strings.Trim(hash, "0123456789abcdef") != "" {
		return a, fmt.Errorf("%q; allowed: SEQ:HASH, as `patchbay audit verify` prints them", s)
	}
	a.Hash = hash
	return a, nil
}
