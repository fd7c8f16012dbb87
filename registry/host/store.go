package host

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"

	"patchbay/config"
	"patchbay/internal/etcdclient"
	"patchbay/registry/store"
	"patchbay/registry/store/etcd"
)

// etcdStore is a store that closes its connection too.
type etcdStore struct {
	*etcd.Store
	client *clientv3.Client
}

// Close implements [store.Store].
func (s etcdStore) Close() error { return errors.Join(s.Store.Close(), s.client.Close()) }

// Store is a store in etcd, if that has endpoints, in a directory, or in memory
// if dir is empty. It waits for an etcd that is away until ctx ends; one that
// does not let us in is a [config.Wrong].
func Store(ctx context.Context, dir string, e *config.Etcd, log *slog.Logger) (store.Store, error) {
	switch {
	case e != nil && len(e.Endpoints) > 0:
		client, guide, err := etcdclient.Connect(ctx, etcdclient.Options(*e), log)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, &config.Wrong{Err: err}
		}
		return etcdStore{etcd.New(etcd.Options{Client: client, Prefix: e.Prefix, Log: log, Explain: guide.Explain}), client}, nil
	case dir != "":
		return store.OpenBolt(filepath.Join(dir, "registry.db"))
	default:
		return &store.Memory{}, nil
	}
}
