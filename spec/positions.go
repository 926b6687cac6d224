package spec

import (
	"sort"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// source finds places in a file's bytes.
type source struct {
	file  string // as it is named in problems
	data  []byte
	lines []int // offset of each line's first byte
}

func newSource(file string, data []byte) *source {
	s := &source{file: file, data: data, lines: []int{0}}
	for i, b := range data {
		if b == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	return s
}

// place is the line and the column, in characters, of a byte offset; zeros if
// the offset is negative.
func (s *source) place(offset int) (line, column int) {
	if s == nil || offset < 0 {
		return 0, 0
	}
	offset = min(offset, len(s.data))
	line = sort.SearchInts(s.lines, offset+1)
	return line, utf8.RuneCount(s.data[s.lines[line-1]:offset]) + 1
}

// node is where a value was written. The tree of nodes has the shape of the
// decoded document. Offsets are -1 where they are unknown.
type node struct {
	key, val int
	keys     map[string]*node
	elems    []*node
	defined  bool // by a header or a value, not merely passed through
}

func newNode() *node { return &node{key: -1, val: -1} }

func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	return n.keys[key]
}

func (n *node) elem(i int) *node {
	if n == nil || i >= len(n.elems) {
		return nil
	}
	return n.elems[i]
}

// valueAt is the offset of the value, or of the next best that is known.
func (n *node) valueAt() int {
	if n == nil {
		return -1
	}
	if n.val >= 0 {
		return n.val
	}
	return n.key
}

func (n *node) keyAt() int {
	if n == nil {
		return -1
	}
	if n.key >= 0 {
		return n.key
	}
	return n.val
}

func (n *node) child(key string, at int) *node {
	c := n.keys[key]
	if c == nil {
		c = newNode()
		c.key = at
		if n.keys == nil {
			n.keys = map[string]*node{}
		}
		n.keys[key] = c
	}
	return c
}

// current is the table that a header or key continues: of an array of tables
// the last one.
func (n *node) current() *node {
	if len(n.elems) > 0 {
		return n.elems[len(n.elems)-1]
	}
	return n
}

// duplicate is a key that is defined again.
type duplicate struct {
	key           string
	first, second int
	header        bool // the second one is a [table] header
}

// locate maps a document. It goes as far as the syntax is right; what comes
// after has no nodes. dup is the first key that is defined twice, if any.
func locate(data []byte) (root *node, dup *duplicate) {
	root = newNode()
	l := &locator{data: data, p: &unstable.Parser{}}
	l.p.Reset(data)
	table := root
	for l.p.NextExpression() {
		e := l.p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = l.header(root, e)
		case unstable.KeyValue:
			l.pair(table, e)
		}
	}
	return root, l.dup
}

type locator struct {
	data []byte
	p    *unstable.Parser
	dup  *duplicate
}

func (l *locator) again(key string, first, second int, header bool) {
	if l.dup == nil {
		l.dup = &duplicate{key, first, second, header}
	}
}

func (l *locator) header(root *node, e *unstable.Node) *node {
	n := root
	for it := e.Key(); it.Next(); {
		k := it.Node()
		at := int(k.Raw.Offset)
		n = n.current().child(string(k.Data), at)
		if !it.IsLast() {
			continue
		}
		if e.Kind == unstable.ArrayTable {
			if n.defined && len(n.elems) == 0 {
				l.again(string(k.Data), n.key, at, true)
			}
			elem := newNode()
			elem.key, elem.val = at, at
			n.elems = append(n.elems, elem)
			n.defined = true
			return elem
		}
		if n.defined {
			l.again(string(k.Data), n.keyAt(), at, true)
		}
		n.key, n.val, n.defined = at, at, true
	}
	return n.current()
}

func (l *locator) pair(table *node, e *unstable.Node) {
	n, end := table, -1
	for it := e.Key(); it.Next(); {
		k := it.Node()
		at := int(k.Raw.Offset)
		n = n.current().child(string(k.Data), at)
		end = at + int(k.Raw.Length)
		if it.IsLast() {
			if n.defined || n.keys != nil {
				l.again(string(k.Data), n.keyAt(), at, false)
			}
			n.key, n.defined = at, true
		}
	}
	l.value(n, e.Value(), l.afterEquals(end))
}

func (l *locator) value(n *node, v *unstable.Node, at int) {
	if v.Raw.Length > 0 {
		at = int(v.Raw.Offset)
	}
	n.val = at
	switch v.Kind {
	case unstable.Array:
		for it := v.Children(); it.Next(); {
			elem := newNode()
			n.elems = append(n.elems, elem)
			l.value(elem, it.Node(), at) // a nested array has no place of its own
		}
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			l.pair(n, it.Node())
		}
	}
}

// afterEquals finds the value behind a key, because the parser doesn't say
// where an array begins.
func (l *locator) afterEquals(i int) int {
	for i >= 0 && i < len(l.data) {
		switch l.data[i] {
		case ' ', '\t', '=':
			i++
		default:
			return i
		}
	}
	return -1
}
