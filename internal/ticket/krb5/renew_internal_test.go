package krb5

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"kerbpass/internal/demo/realm"
	"kerbpass/internal/ticket"
)

// What happens to the cache while the KDC is asked is not undone by its answer.
func TestRenewLeavesNewerCacheAlone(t *testing.T) {
	r, err := realm.Start(realm.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	mint := func(o realm.MintOptions) error { _, err := r.Mint(o); return err }
	now := time.Now()
	for _, tt := range []struct {
		name      string
		meanwhile func() error
		want      error // nil: the renewal counts as done
	}{
		{"another user", func() error { return mint(realm.MintOptions{User: "shorty", End: now.Add(48 * time.Hour)}) }, ticket.ErrCache},
		{"a shorter ticket", func() error { return mint(realm.MintOptions{End: now.Add(time.Hour)}) }, ticket.ErrCache},
		{"no TGT", func() error { return mint(realm.MintOptions{NoTGT: true}) }, ticket.ErrCache},
		{"renewed by somebody else", func() error { return mint(realm.MintOptions{End: now.Add(20 * time.Hour)}) }, nil},
		{"signed out", func() error { return os.Remove(r.CachePath()) }, ticket.ErrNoTicket},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := mint(realm.MintOptions{RenewUntil: now.Add(24 * time.Hour)}); err != nil {
				t.Fatal(err)
			}
			b, err := New(Config{ConfigPath: r.Krb5Conf()})
			if err != nil {
				t.Fatal(err)
			}
			s, _, err := b.load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.meanwhile(); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(r.CachePath()) // gone is a state too
			if err := b.replaceTGT(s, []cred{*s.tgtAt}); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if after, _ := os.ReadFile(r.CachePath()); !bytes.Equal(after, before) {
				t.Error("the cache was changed")
			}
		})
	}
}
