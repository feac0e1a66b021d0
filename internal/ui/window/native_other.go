//go:build !windows && (nogss || (!linux && !darwin))

package window

import "errors"

// newNativeView reports [errors.ErrUnsupported]: an engine below a window of
// our own needs a build that may load libraries.
func newNativeView(string, page) (view, error) { return nil, errors.ErrUnsupported }
