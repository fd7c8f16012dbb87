package etcdtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"patchbay/internal/etcdclient"
	"patchbay/internal/poll"
)

// Cluster is an etcd of three members, which serve clients by TLS and want a
// certificate of them. Its methods are for the test's goroutine.
type Cluster struct {
	*Authority
	Members []*Server
}

// StartCluster runs one until the test ends.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{Authority: NewAuthority(t)}
	cert, key := c.Certificate("server")
	peers, list := []string{}, []string{}
	for i := range 3 {
		peers = append(peers, "http://"+free(t))
		list = append(list, fmt.Sprintf("m%d=%s", i, peers[i]))
	}
	for i, peer := range peers {
		m := member(t, fmt.Sprintf("m%d", i), "https")
		m.args = append(m.args, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", strings.Join(list, ","),
			"--cert-file", cert, "--key-file", key, "--trusted-ca-file", c.CAFile, "--client-cert-auth", "--heartbeat-interval", "100", "--election-timeout", "1000")
		m.as = c.As("root")
		c.Members = append(c.Members, m)
		m.start()
	}
	for _, m := range c.Members {
		m.answers()
	}
	return c
}

// Leader is the member that leads, once there is one.
func (c *Cluster) Leader() (leader *Server) {
	c.t.Helper()
	if err := poll.Until(c.t.Context(), time.Minute, func() error {
		for _, m := range c.Members {
			if s, err := m.Client().Status(c.t.Context(), m.URL); err == nil && s.Leader == s.Header.GetMemberId() {
				leader = m
				return nil
			}
		}
		return errors.New("no member leads")
	}); err != nil {
		c.t.Fatal(err)
	}
	return leader
}

// Endpoints are the URLs of all members.
func (c *Cluster) Endpoints() (all []string) {
	for _, m := range c.Members {
		all = append(all, m.URL)
	}
	return all
}

// As are the options of a client with a certificate of that name.
func (c *Cluster) As(name string) etcdclient.Options {
	cert, key := c.Certificate(name)
	return etcdclient.Options{Endpoints: c.Endpoints(), CAFile: c.CAFile, CertFile: cert, KeyFile: key}
}

// Client is a new client of all members, closed at the end of the test.
func (c *Cluster) Client(name string) *clientv3.Client {
	c.t.Helper()
	return client(c.t, c.As(name))
}

// Restrict switches etcd's authentication on: root may do everything, user what
// is beneath prefix, and others nothing. A certificate of that name is as good
// as the password.
func (c *Cluster) Restrict(user, password, prefix string) {
	c.t.Helper()
	ctx, root := c.t.Context(), c.Client("root")
	_, a := root.RoleAdd(ctx, "part")
	_, b := root.RoleGrantPermission(ctx, "part", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))
	_, d := root.UserAdd(ctx, user, password)
	_, e := root.UserGrantRole(ctx, user, "part")
	_, f := root.UserAdd(ctx, "root", password)
	_, g := root.RoleAdd(ctx, "root")
	_, h := root.UserGrantRole(ctx, "root", "root")
	_, i := root.AuthEnable(ctx)
	for _, err := range []error{a, b, d, e, f, g, h, i} {
		if err != nil {
			c.t.Fatal(err)
		}
	}
}
