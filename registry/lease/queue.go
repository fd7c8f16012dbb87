package lease

import (
	"container/heap"
	"time"
)

// queue orders entries by when they are due.
type queue struct{ h dueHeap }

func (q *queue) first() *entry {
	if len(q.h) == 0 {
		return nil
	}
	return q.h[0]
}

func (q *queue) set(e *entry, due time.Time) {
	e.due = due
	if e.at < 0 {
		heap.Push(&q.h, e)
	} else {
		heap.Fix(&q.h, e.at)
	}
}

func (q *queue) remove(e *entry) {
	if e.at >= 0 {
		heap.Remove(&q.h, e.at)
	}
}

type dueHeap []*entry

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }

func (h *dueHeap) Push(x any) {
	e := x.(*entry)
	e.at = len(*h)
	*h = append(*h, e)
}

func (h *dueHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	e.at = -1
	*h = old[:len(old)-1]
	return e
}
