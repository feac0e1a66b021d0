package krb5_test

import (
	"testing"

	"kerbpass/internal/demo/realm"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/krb5"
)

// ready is a backend whose cache holds the ticket for proxy.
func ready(b *testing.B) *krb5.Backend {
	r := start(b, realm.Config{})
	mint(b, r, realm.MintOptions{Services: []string{proxy}})
	return open(b, r)
}

// BenchmarkParts is one token as the proxy asks for it, and its parts.
func BenchmarkParts(b *testing.B) {
	backend := ready(b)
	m, err := ticket.NewManager(ticket.Config{Backend: backend})
	if err != nil {
		b.Fatal(err)
	}
	run := func(name string, f func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+" parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(16) // 32 at once on two processors
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := f(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
	run("backend", func() error { _, err := backend.Token(b.Context(), proxy); return err })
	run("manager", func() error { _, err := m.Token(b.Context(), proxy); return err })
	run("epoch", func() error { m.Epoch(); return nil })
	run("stamp", func() error { backend.Stamp(); return nil })
}
