package server

import (
	"sync"

	"github.com/cyber-boost/syspulse/api"
)

// finishers are the streams that their clients can end gracefully, each by a
// word of the client's choice.
type finishers struct {
	mu     sync.Mutex
	byWord map[string]*finisher
}

type finisher struct {
	told    chan struct{} // closed once it was
	streams int           // a client that was cut off may be back sooner than that is seen
}

// add makes the channel that finish closes.
func (f *finishers) add(word string) (<-chan struct{}, func(), error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if word == "" || len(word) > 100 {
		return nil, nil, api.Invalid("finish is a word of at most 100 bytes")
	}
	w := f.byWord[word]
	if w == nil {
		w = &finisher{told: make(chan struct{})}
		if f.byWord == nil {
			f.byWord = make(map[string]*finisher)
		}
		f.byWord[word] = w
	}
	w.streams++
	return w.told, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if w.streams--; w.streams == 0 {
			delete(f.byWord, word)
		}
	}, nil
}

func (f *finishers) finish(word string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.byWord[word]
	if w == nil {
		return api.NewError(api.CodeConflict, "no stream is to be finished by that word; it may have ended")
	}
	select {
	case <-w.told:
	default:
		close(w.told)
	}
	return nil
}
