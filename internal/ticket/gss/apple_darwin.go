//go:build darwin && !nogss

package gss

// Backend is GSS.framework on the caches of the person.
type Backend struct{ *apple }

// New loads the framework and reads no ticket. Config.Flavour does not matter:
// macOS has one.
func New(c Config) (*Backend, error) {
	// The file exists only in the loader's cache.
	a, err := newApple(c, "/System/Library/Frameworks/GSS.framework/GSS")
	if err != nil {
		return nil, err
	}
	return &Backend{a}, nil
}
