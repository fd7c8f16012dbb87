package store

import (
	"bytes"
	"sync"
)

// Memory is a Store that lives as long as the process. The zero value is ready.
type Memory struct {
	mu   sync.Mutex
	rows map[[2]string][]byte
}

// Load is Store's.
func (m *Memory) Load(f func(table, key string, value []byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range m.rows {
		if err := f(k[0], k[1], v); err != nil {
			return err
		}
	}
	return nil
}

// Apply is Store's. It never fails.
func (m *Memory) Apply(changes []Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows == nil {
		m.rows = map[[2]string][]byte{}
	}
	for _, c := range changes {
		k := [2]string{c.Table, c.Key}
		if c.Value == nil {
			delete(m.rows, k)
		} else {
			m.rows[k] = bytes.Clone(c.Value)
		}
	}
	return nil
}

// Close is Store's. What Memory holds stays, so that a test can open it again.
func (m *Memory) Close() error { return nil }
