package etcd

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// lease is the id of the lease that stands for key's signs of life. It needs no
// look-up, so whichever replica hears of key renews the same one.
func (s *Store) lease(key string, period time.Duration) clientv3.LeaseID {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", s.prefix, key, period))
	return clientv3.LeaseID(binary.BigEndian.Uint64(sum[:8])>>1 | 1) //nolint:gosec // positive by the shift
}

// Beat is Beats'.
func (s *Store) Beat(key string, period time.Duration) error {
	ctx, cancel := s.within()
	defer cancel()
	id := s.lease(key, period)
	_, err := s.client.KeepAliveOnce(ctx, id)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		req := &pb.LeaseGrantRequest{ID: int64(id), TTL: int64(period.Seconds())}
		if _, err = clientv3.RetryLeaseClient(s.client).LeaseGrant(ctx, req); errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseExist) {
			err = nil // another replica was faster
		}
	}
	if err != nil {
		return s.unavailable("note a heartbeat", err)
	}
	return nil
}

// Heard is Beats'. etcd counts whole seconds and ends a lease up to one late.
func (s *Store) Heard(key string, period time.Duration) (time.Duration, error) {
	ctx, cancel := s.within()
	defer cancel()
	out, err := s.client.TimeToLive(ctx, s.lease(key, period))
	if err != nil {
		return 0, s.unavailable("ask for a heartbeat", err)
	}
	return max(0, min(period, time.Duration(out.TTL)*time.Second)), nil
}
