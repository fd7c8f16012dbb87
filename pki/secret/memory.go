package secret

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Memory is a [Store] that a restart empties: for tests, and for one
// control plane that may ask its CA for everything again.
type Memory struct {
	mu      sync.Mutex
	secrets map[string]Entry
	pending map[string]Entry
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{secrets: map[string]Entry{}, pending: map[string]Entry{}} }

// Load implements [Store].
func (m *Memory) Load(ctx context.Context, name string) (Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.secrets[name]
	if err := ctx.Err(); err != nil {
		return Entry{}, fmt.Errorf("load secret %s: %w", name, err)
	}
	if !ok {
		return Entry{}, fmt.Errorf("load secret %s: %w", name, ErrNone)
	}
	s.Value = slices.Clone(s.Value)
	return s, nil
}

// Save implements [Store].
func (m *Memory) Save(ctx context.Context, s Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("save %s: %w", s, err)
	}
	if s.Generation != m.secrets[s.Name].Generation+1 {
		return fmt.Errorf("save %s: %w", s, ErrConflict)
	}
	s.Value = slices.Clone(s.Value)
	m.secrets[s.Name] = s
	delete(m.pending, s.Name)
	return nil
}

// Prepare implements [Store].
func (m *Memory) Prepare(ctx context.Context, s Entry) (Entry, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return Entry{}, false, fmt.Errorf("prepare %s: %w", s, err)
	}
	if s.Generation != m.secrets[s.Name].Generation+1 {
		return Entry{}, false, fmt.Errorf("prepare %s: %w", s, ErrConflict)
	}
	old, ok := m.pending[s.Name]
	mine := !ok || old.For != s.For
	if mine {
		old = s
		old.Value = slices.Clone(s.Value)
		m.pending[s.Name] = old
	}
	old.Value = slices.Clone(old.Value)
	return old, mine, nil
}
