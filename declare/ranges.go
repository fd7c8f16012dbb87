package declare

import (
	"fmt"
	"strconv"
	"strings"
)

// span is the first and the last port of a containerPortRange.
func span(text string) (first, last uint16, ok bool) {
	a, b, _ := strings.Cut(text, "-")
	low, errLow := strconv.ParseUint(a, 10, 16)
	high, errHigh := strconv.ParseUint(b, 10, 16)
	return uint16(low), uint16(high), errLow == nil && errHigh == nil && low > 0 && low <= high
}

// portRange holds a range against its form. ECS takes none for Service Connect, and
// takes them beside it.
func (c *checker) portRange(path string, m portMapping) {
	if m.ContainerPort != nil {
		c.bad(path+".containerPortRange", "stands beside containerPort; allowed: one of the two")
	}
	if _, _, ok := span(m.ContainerPortRange); !ok {
		c.bad(path+".containerPortRange", "%s; allowed: FIRST-LAST, such as 8000-8010", quote(m.ContainerPortRange))
	}
}

// ports are those that a mapping stands for. A range of udp has none: nothing that
// Envoy listens on is in its way.
func (m portMapping) ports() (all []uint16) {
	if p := portOf(m.ContainerPort); p > 0 {
		return []uint16{p}
	}
	first, last, ok := span(m.ContainerPortRange)
	if !ok || m.Protocol == "udp" {
		return nil
	}
	for p := int(first); p <= int(last); p++ {
		all = append(all, uint16(p))
	}
	return all
}

// nameless tells of the ports that a service could mean, and can't name, where
// others have names.
func nameless(list []portMapping) string {
	var ports []string
	for _, m := range list {
		if p := portOf(m.ContainerPort); p > 0 && m.Name == "" && m.Protocol != "udp" {
			ports = append(ports, strconv.Itoa(int(p)))
		}
	}
	switch n := len(ports); {
	case n == 0 || n == len(list):
		return ""
	case n == 1:
		return fmt.Sprintf("; the port mapping of %s has no name, and ECS wants one of a port that Service Connect offers", ports[0])
	}
	return fmt.Sprintf("; the port mappings of %s have no name, and ECS wants one of a port that Service Connect offers", strings.Join(ports, ", "))
}
