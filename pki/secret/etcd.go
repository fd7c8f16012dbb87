package secret

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcdPatience is for one call. A cluster that elects a leader takes a second
// or two.
const etcdPatience = 10 * time.Second

// EtcdOptions say where an [Etcd] keeps its secrets and its key.
type EtcdOptions struct {
	Client  *clientv3.Client // the caller's, who closes it
	Prefix  string           // of every key; ends with a slash
	KeyFile string           // made 0600 with a new key on first use; the same on every replica
	Key     []byte           // 32 bytes, see [ParseKey]; goes before KeyFile
	// Explain says of a call's error what to do; nil: nobody knows.
	Explain func(error) error
}

// Etcd is a [Store] in an etcd cluster, which replicas share. Values are sealed
// as those of [File]: who reads etcd, or its backups, reads no secret.
type Etcd struct {
	o    EtcdOptions
	mu   sync.Mutex
	seal *sealer // nil until first use
}

// NewEtcd returns a store beneath o.Prefix. It asks nothing until it is used.
func NewEtcd(o EtcdOptions) *Etcd {
	if o.Explain == nil {
		o.Explain = func(err error) error { return err }
	}
	return &Etcd{o: o}
}

func (e *Etcd) key(name, kind string) string { return e.o.Prefix + kind[1:] + "/" + name }

// row is what a key holds, its seal unopened, and the key's revision: zero if
// there is none.
type row struct {
	envelope
	revision int64
	kv       *mvccpb.KeyValue
}

func (e *Etcd) sealer() (*sealer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seal != nil {
		return e.seal, nil
	}
	key := e.o.Key
	if len(key) == 0 {
		var err error
		if key, err = readKey(e.o.KeyFile); err != nil {
			return nil, err
		}
	}
	seal, err := newSealer(key)
	e.seal = seal
	return seal, err
}

// read returns both rows of a name as they are at one moment.
func (e *Etcd) read(ctx context.Context, seal *sealer, name string) (now, next row, err error) {
	ctx, cancel := context.WithTimeout(ctx, etcdPatience)
	defer cancel()
	out, err := e.o.Client.Txn(ctx).Then(clientv3.OpGet(e.key(name, saved)), clientv3.OpGet(e.key(name, prepared))).Commit()
	if err != nil {
		return now, next, e.o.Explain(err)
	}
	for i, r := range []*row{&now, &next} {
		for _, kv := range out.Responses[i].GetResponseRange().Kvs {
			r.revision, r.kv = kv.ModRevision, kv
			if err := json.Unmarshal(kv.Value, &r.envelope); err != nil || r.Name != name || r.Version < 1 || r.Generation == 0 || r.Prepared != (i == 1) {
				return now, next, e.quarantine(ctx, name, kv)
			}
			if r.Version > envelopeVersion {
				return now, next, fmt.Errorf("key %s has version %d; this program reads up to %d", kv.Key, r.Version, envelopeVersion)
			}
			if r.KeyID != seal.id {
				return now, next, fmt.Errorf("%w: etcd's key %s needs key %s, this is key %s; every replica needs the same key file", ErrOtherKey, kv.Key, r.KeyID, seal.id)
			}
		}
	}
	return now, next, nil
}

// open is what a row holds.
func (e *Etcd) open(ctx context.Context, seal *sealer, name string, r row) (Entry, error) {
	value, err := seal.open(r.envelope)
	if err != nil {
		return Entry{}, e.quarantine(ctx, name, r.kv)
	}
	return Entry{Name: name, Generation: r.Generation, Value: value, For: r.For}, nil
}

// quarantine moves what can't be read aside, so that a new one may be stored
// and an operator may look at it.
func (e *Etcd) quarantine(ctx context.Context, name string, kv *mvccpb.KeyValue) error {
	aside := fmt.Sprintf("%scorrupt/%s/%d", e.o.Prefix, name, kv.ModRevision)
	ctx, cancel := context.WithTimeout(ctx, etcdPatience)
	defer cancel()
	_, err := e.o.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(string(kv.Key)), "=", kv.ModRevision)).
		Then(clientv3.OpPut(aside, string(kv.Value)), clientv3.OpDelete(string(kv.Key))).Commit()
	if err != nil {
		return fmt.Errorf("etcd's key %s can't be read, and not be put aside: %w", kv.Key, err)
	}
	return fmt.Errorf("%w: etcd's key %s; it is now %s", ErrCorrupt, kv.Key, aside)
}

// Load implements [Store].
func (e *Etcd) Load(ctx context.Context, name string) (Entry, error) {
	s, err := e.load(ctx, name)
	if err != nil {
		return Entry{}, fmt.Errorf("load secret %s: %w", name, err)
	}
	return s, nil
}

func (e *Etcd) load(ctx context.Context, name string) (Entry, error) {
	seal, err := e.sealer()
	if err != nil {
		return Entry{}, err
	}
	now, _, err := e.read(ctx, seal, name)
	switch {
	case err != nil:
		return Entry{}, err
	case now.revision == 0:
		return Entry{}, ErrNone
	}
	return e.open(ctx, seal, name, now)
}

// Save implements [Store].
func (e *Etcd) Save(ctx context.Context, s Entry) error {
	s.For = ""
	_, _, err := e.put(ctx, s, saved)
	if err != nil {
		return fmt.Errorf("save %s: %w", s, err)
	}
	return nil
}

// Prepare implements [Store].
func (e *Etcd) Prepare(ctx context.Context, s Entry) (Entry, bool, error) {
	for {
		out, mine, err := e.put(ctx, s, prepared)
		if errors.Is(err, errRaced) {
			continue // somebody prepared, or saved, a moment ago
		}
		if err != nil {
			return Entry{}, false, fmt.Errorf("prepare %s: %w", s, err)
		}
		return out, mine, nil
	}
}

var errRaced = errors.New("somebody was faster")

// put stores s as the next generation, or as what that will be made from, if
// nothing has changed since it looked.
func (e *Etcd) put(ctx context.Context, s Entry, kind string) (Entry, bool, error) {
	seal, err := e.sealer()
	if err != nil {
		return Entry{}, false, err
	}
	now, next, err := e.read(ctx, seal, s.Name)
	if err != nil {
		return Entry{}, false, err
	}
	if s.Generation != now.Generation+1 {
		return Entry{}, false, ErrConflict
	}
	if kind == prepared && next.revision != 0 && next.Generation == s.Generation && next.For == s.For {
		out, err := e.open(ctx, seal, s.Name, next)
		return out, false, err
	}
	text, err := json.Marshal(seal.close(s, kind == prepared))
	if err != nil {
		return Entry{}, false, err
	}
	unchanged := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(e.key(s.Name, saved)), "=", now.revision)}
	ops := []clientv3.Op{clientv3.OpPut(e.key(s.Name, kind), string(text))}
	lost := errRaced
	if kind == prepared {
		unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(e.key(s.Name, prepared)), "=", next.revision))
	} else {
		ops, lost = append(ops, clientv3.OpDelete(e.key(s.Name, prepared))), ErrConflict
	}
	ctx, cancel := context.WithTimeout(ctx, etcdPatience)
	defer cancel()
	out, err := e.o.Client.Txn(ctx).If(unchanged...).Then(ops...).Commit()
	if err == nil && !out.Succeeded {
		err = lost
	}
	s.Value = slices.Clone(s.Value)
	return s, true, err
}
