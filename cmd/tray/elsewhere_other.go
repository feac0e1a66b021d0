//go:build !linux

package main

// likelyCaches has nothing to list: all programs of a user share one cache.
func likelyCaches() []string { return nil }
