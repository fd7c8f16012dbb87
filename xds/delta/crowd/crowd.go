// Package crowd keeps who is to be told of what. Each member of a [Crowd] has a
// small number of its own, and a [Group] of them is a set of bits: a name to
// which a thousand streams subscribe costs 128 bytes.
//
// It must not know what members are. Nothing here is safe for concurrent use.
package crowd

import (
	"iter"
	"math/bits"
)

// Crowd gives its members numbers. The zero value is empty.
type Crowd[T any] struct {
	at []T // by number
	in Group
}

// Enter gives m the lowest number that is free.
func (c *Crowd[T]) Enter(m T) int {
	n := c.in.gap()
	c.in.Add(n)
	if n == len(c.at) {
		c.at = append(c.at, m)
	}
	c.at[n] = m
	return n
}

// Leave frees a number. It must be in no group any more.
func (c *Crowd[T]) Leave(n int) {
	var none T
	c.at[n] = none
	c.in.Remove(n)
}

// Size is how many members there are.
func (c *Crowd[T]) Size() int { return c.in.Size() }

// All are the members, by number.
func (c *Crowd[T]) All() iter.Seq[T] { return c.Of(&c.in, nil) }

// Of are the members of either group, each once, by number. Nil is an empty
// group.
func (c *Crowd[T]) Of(a, b *Group) iter.Seq[T] {
	return func(yield func(T) bool) {
		for i := range max(a.len(), b.len()) {
			for w := a.word(i) | b.word(i); w != 0; w &= w - 1 {
				if !yield(c.at[i*64+bits.TrailingZeros64(w)]) {
					return
				}
			}
		}
	}
}

// Group is a set of numbers. The zero value is empty.
type Group struct {
	words []uint64
	size  int
}

// Add adds a number, which may be there.
func (g *Group) Add(n int) {
	for g.len() <= n/64 {
		g.words = append(g.words, 0)
	}
	if bit := uint64(1) << (n % 64); g.words[n/64]&bit == 0 {
		g.words[n/64] |= bit
		g.size++
	}
}

// Remove takes a number out, which may be missing.
func (g *Group) Remove(n int) {
	if bit := uint64(1) << (n % 64); g.word(n/64)&bit != 0 {
		g.words[n/64] &^= bit
		g.size--
	}
}

// Size is how many numbers there are.
func (g *Group) Size() int { return g.size }

// gap is the lowest number that is missing.
func (g *Group) gap() int {
	for i, w := range g.words {
		if w != ^uint64(0) {
			return i*64 + bits.TrailingZeros64(^w)
		}
	}
	return len(g.words) * 64
}

func (g *Group) len() int {
	if g == nil {
		return 0
	}
	return len(g.words)
}

func (g *Group) word(i int) uint64 {
	if i >= g.len() {
		return 0
	}
	return g.words[i]
}
