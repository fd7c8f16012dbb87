package closed

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"

	"patchbay/internal/envoytest"
)

// New connections are refused as where nobody listens; those that stand go on.
func TestRefusesNewConnections(t *testing.T) {
	ns := envoytest.Netns(t)
	var lis [2]net.Listener
	envoytest.In(t, ns, func() (err error) {
		for i, network := range []string{"127.0.0.1:7000", "[::]:7001"} {
			if lis[i], err = net.Listen("tcp", network); err != nil {
				return err
			}
		}
		return nil
	})
	for _, l := range lis {
		defer l.Close()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					line, _ := bufio.NewReader(conn).ReadString('\n')
					fmt.Fprint(conn, line)
				}()
			}
		}()
	}
	dial := func(to string) (conn net.Conn, err error) {
		envoytest.In(t, ns, func() error { conn, err = net.Dial("tcp", to); return nil })
		return conn, err
	}
	set := func(ports ...uint16) {
		t.Helper()
		envoytest.In(t, ns, func() error { return Set(ports) })
	}
	standing, err := dial("127.0.0.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	defer standing.Close()
	set(7000, 7001)
	for _, to := range []string{"127.0.0.1:7000", "127.0.0.1:7001", "[::1]:7001"} {
		if conn, err := dial(to); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v, %v", to, conn, err)
		}
	}
	fmt.Fprintln(standing, "still here")
	if line, err := bufio.NewReader(standing).ReadString('\n'); line != "still here\n" {
		t.Errorf("the connection that stood: %q, %v", line, err)
	}
	set(7001) // one of them lives again
	if conn, err := dial("127.0.0.1:7000"); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	set()
	if conn, err := dial("[::1]:7001"); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	envoytest.In(t, ns, func() error { return Set(nil) }) // nothing to remove is no error
}
