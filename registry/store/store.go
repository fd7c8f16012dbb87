// Package store keeps the registry's records: named tables of keys and values,
// changed in atomic batches.
//
// It owns durability. It must not know what the records mean.
//
// Start reading at [Store]. [Memory] forgets at the end of the process, [Bolt]
// writes one file.
package store

// Change puts one value, or deletes the key if Value is nil.
type Change struct {
	Table, Key string
	Value      []byte
}

// Store keeps tables. Its methods are safe for concurrent use.
type Store interface {
	// Load calls f with every record, in no order, and stops at its first
	// error, which it returns. f must not keep value.
	Load(f func(table, key string, value []byte) error) error
	// Apply makes all changes, in their order, or none. When it returns nil
	// they survive the sudden end of the process and of the machine, as far as
	// the store survives these at all.
	Apply(changes []Change) error
	// Close releases what the store holds. Nothing may be called after it.
	Close() error
}
