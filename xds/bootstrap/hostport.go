package bootstrap

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// ParseHostPort reads HOST:PORT. Its error says what is allowed.
func ParseHostPort(text string) (HostPort, error) {
	host, port, err := net.SplitHostPort(strings.TrimSpace(text))
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || host == "" || n == 0 {
		return HostPort{}, fmt.Errorf("%q; allowed: HOST:PORT, such as patchbay:18000", text)
	}
	return HostPort{Host: host, Port: uint16(n)}, nil
}
