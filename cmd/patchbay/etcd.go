package main

import (
	"errors"
	"log/slog"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"

	"patchbay/config"
	"patchbay/internal/etcdclient"
	"patchbay/registry/store"
	"patchbay/registry/store/etcd"
)

// dialEtcd connects to a cluster.
func dialEtcd(e *config.Etcd) (*clientv3.Client, error) {
	return etcdclient.Dial(etcdclient.Options{Endpoints: e.Endpoints, CAFile: e.CAFile, CertFile: e.CertFile, KeyFile: e.KeyFile})
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
func registryStore(dir string, e *config.Etcd, log *slog.Logger) (store.Store, error) {
	switch {
	case e != nil && len(e.Endpoints) > 0:
		client, err := dialEtcd(e)
		if err != nil {
			return nil, &exitError{exitUsage, err}
		}
		return etcdStore{etcd.New(etcd.Options{Client: client, Prefix: e.Prefix, Log: log}), client}, nil
	case dir != "":
		return store.OpenBolt(filepath.Join(dir, "registry.db"))
	default:
		return &store.Memory{}, nil
	}
}
