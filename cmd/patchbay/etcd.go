package main

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

// dialEtcd connects to a cluster. The guide explains errors of its calls.
func dialEtcd(ctx context.Context, e *config.Etcd, log *slog.Logger) (*clientv3.Client, *etcdclient.Guide, error) {
	o := etcdclient.Options{Endpoints: e.Endpoints, CAFile: e.CAFile, CertFile: e.CertFile, KeyFile: e.KeyFile, User: e.User, PasswordFile: e.PasswordFile}
	told := ""
	client, err := etcdclient.Dial(ctx, o, func(err error) {
		if err.Error() != told {
			told = err.Error()
			log.WarnContext(ctx, "waiting to be let in by etcd", "error", told)
		}
	})
	return client, etcdclient.NewGuide(o, e.Prefix), err
}

// etcdStore is a store that closes its connection too.
type etcdStore struct {
	*etcd.Store
	client *clientv3.Client
}

// Close implements [store.Store].
func (s etcdStore) Close() error { return errors.Join(s.Store.Close(), s.client.Close()) }

// registryStore is a store in etcd, if that has endpoints, in a directory, or
// in memory if dir is empty.
func registryStore(ctx context.Context, dir string, e *config.Etcd, log *slog.Logger) (store.Store, error) {
	switch {
	case e != nil && len(e.Endpoints) > 0:
		client, guide, err := dialEtcd(ctx, e, log)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, &exitError{exitUsage, err}
		}
		return etcdStore{etcd.New(etcd.Options{Client: client, Prefix: e.Prefix, Log: log, Explain: guide.Explain}), client}, nil
	case dir != "":
		return store.OpenBolt(filepath.Join(dir, "registry.db"))
	default:
		return &store.Memory{}, nil
	}
}
