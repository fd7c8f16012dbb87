package definition

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// sizes are Fargate's: CPU units, and the memory in MiB that each may have.
var sizes = []struct{ cpu, least, most, step int }{
	{256, 512, 2048, 0}, // 512, 1024, 2048
	{512, 1024, 4096, 1024},
	{1024, 2048, 8192, 1024},
	{2048, 4096, 16384, 1024},
	{4096, 8192, 30720, 1024},
	{8192, 16384, 61440, 4096},
	{16384, 32768, 122880, 8192},
}

// fargateSize reports whether Fargate has this size.
func fargateSize(cpu, memory int) bool {
	c, m, ok := FargateFor(cpu, memory)
	return ok && c == cpu && m == memory
}

// FargateFor is the smallest size of Fargate that holds as much.
func FargateFor(cpu, memory int) (int, int, bool) {
	for _, s := range sizes {
		if s.cpu < cpu || s.most < memory {
			continue
		}
		m := max(memory, s.least)
		switch {
		case s.step == 0 && m > 1024:
			m = 2048
		case s.step == 0 && m > 512:
			m = 1024
		case s.step > 0:
			m = (m + s.step - 1) / s.step * s.step
		}
		return s.cpu, m, true
	}
	return 0, 0, false
}

func fargateCPUs() string {
	var all []string
	for _, s := range sizes {
		all = append(all, strconv.Itoa(s.cpu))
	}
	return strings.Join(all, ", ")
}

func near(cpu, memory int) string {
	c, m, ok := FargateFor(cpu, memory)
	if !ok {
		last := sizes[len(sizes)-1]
		c, m = last.cpu, last.most
	}
	return fmt.Sprintf("cpu %d with memory %d", c, m)
}

var amount = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([a-zA-Z]*)$`)

// Size is cpu (in units) and memory (in MiB) of the task; false unless both are
// known.
func (d *Definition) Size() (cpu, memory int, ok bool) {
	cpu, c := d.cpu()
	memory, m := d.memory()
	return cpu, memory, c && m
}

func (d *Definition) cpu() (int, bool) { return units(d.Task.Get("cpu"), "vcpu", 1024) }

func (d *Definition) memory() (int, bool) { return units(d.Task.Get("memory"), "gb", 1024) }

// units reads a number, or a text with a unit that is so many.
func units(v any, unit string, many float64) (int, bool) {
	text, _ := v.(string)
	if n, ok := v.(json.Number); ok {
		text = n.String()
	}
	m := amount.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseFloat(m[1], 64)
	switch strings.ToLower(m[2]) {
	case "":
	case unit:
		n *= many
	default:
		return 0, false
	}
	return int(n), err == nil && n == math.Trunc(n) && n < 1e9
}
