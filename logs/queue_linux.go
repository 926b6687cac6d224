//go:build !logs_poll

package logs

// queue is a first-in-first-out queue of streams in a ring.
type queue struct {
	ring []*stream // its length is a power of two
	head int
	n    int
}

func (q *queue) len() int { return q.n }

func (q *queue) push(s *stream) {
	if q.n == len(q.ring) {
		ring := make([]*stream, max(16, 2*len(q.ring)))
		for i := range q.n {
			ring[i] = q.ring[(q.head+i)&(len(q.ring)-1)]
		}
		q.ring, q.head = ring, 0
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = s
	q.n++
}

func (q *queue) pop() *stream {
	s := q.ring[q.head]
	q.ring[q.head] = nil
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	return s
}

// dueHeap holds the streams that wait for the clock, the first due on top.
// Streams know their place in it.
type dueHeap struct{ h []*stream }

func (d *dueHeap) len() int     { return len(d.h) }
func (d *dueHeap) min() *stream { return d.h[0] }

func (d *dueHeap) push(s *stream) {
	s.index = len(d.h)
	d.h = append(d.h, s)
	d.up(s.index)
}

func (d *dueHeap) pop() *stream {
	s := d.h[0]
	d.remove(s)
	return s
}

func (d *dueHeap) remove(s *stream) {
	i, last := s.index, len(d.h)-1
	d.swap(i, last)
	d.h[last] = nil
	d.h = d.h[:last]
	if i < last {
		d.down(i)
		d.up(i)
	}
}

func (d *dueHeap) swap(i, j int) {
	d.h[i], d.h[j] = d.h[j], d.h[i]
	d.h[i].index, d.h[j].index = i, j
}

func (d *dueHeap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if d.h[parent].at <= d.h[i].at {
			return
		}
		d.swap(i, parent)
		i = parent
	}
}

func (d *dueHeap) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(d.h) {
			return
		}
		if right := child + 1; right < len(d.h) && d.h[right].at < d.h[child].at {
			child = right
		}
		if d.h[i].at <= d.h[child].at {
			return
		}
		d.swap(i, child)
		i = child
	}
}
