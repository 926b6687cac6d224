package actors

import "context"

// answer carries the result of a request back to a goroutine outside the
// tree. It takes one result and never blocks the actor that gives it; a
// second one (say, from the guard) is dropped.
type answer[T any] struct{ ch chan result[T] }

type result[T any] struct {
	value T
	err   error
}

func newAnswer[T any]() answer[T] { return answer[T]{make(chan result[T], 1)} }

func (a answer[T]) give(v T, err error) {
	select {
	case a.ch <- result[T]{v, err}:
	default:
	}
}

func (a answer[T]) fail(err error) {
	var zero T
	a.give(zero, err)
}

// await waits for the result or the end of ctx or of the manager.
func (a answer[T]) await(ctx context.Context, ended <-chan struct{}, endedErr func() error) (T, error) {
	var zero T
	select {
	case r := <-a.ch:
		return r.value, r.err
	case <-ctx.Done():
		return zero, ctx.Err()
	case <-ended:
		select {
		case r := <-a.ch:
			return r.value, r.err
		default:
		}
		return zero, endedErr()
	}
}
