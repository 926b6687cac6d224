package server

import (
	"sync"

	"github.com/cyber-boost/syspulse/api"
)

// finishers are the streams that their clients can end gracefully, each by a
// word of the client's choice.
type finishers struct {
	mu     sync.Mutex
	byWord map[string]chan struct{} // nil: it was told already
}

// add makes the channel that finish closes.
func (f *finishers) add(word string) (<-chan struct{}, func(), error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.byWord[word]; ok || word == "" || len(word) > 100 {
		return nil, nil, api.Invalid("finish is a word that no other stream has")
	}
	if f.byWord == nil {
		f.byWord = make(map[string]chan struct{})
	}
	c := make(chan struct{})
	f.byWord[word] = c
	return c, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.byWord, word)
	}, nil
}

func (f *finishers) finish(word string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.byWord[word]
	if !ok {
		return api.NewError(api.CodeConflict, "no stream is to be finished by that word; it may have ended")
	}
	if c != nil {
		close(c)
		f.byWord[word] = nil
	}
	return nil
}
