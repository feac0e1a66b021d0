package sspi

import "context"

// slots bound the calls that wait for a domain controller. Each holds an OS
// thread, and Windows may let it hang for a minute.
type slots chan struct{}

// await returns what call does, or ctx's error once that ends. The call then
// goes on alone, keeping its slot, and what it returns is dropped.
func await[T any](ctx context.Context, free slots, call func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	select {
	case free <- struct{}{}:
	case <-ctx.Done():
		return none, ctx.Err()
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-free }()
		value, err := call()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}
