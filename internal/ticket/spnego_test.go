package ticket_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"kerbpass/internal/ticket"
)

func TestWrapSPNEGO(t *testing.T) {
	for _, n := range []int{0, 1, 90, 200, 300, 70000} {
		inner := bytes.Repeat([]byte{0x5a}, n)
		got := ticket.WrapSPNEGO(inner)
		if got[0] != 0x60 || !bytes.HasSuffix(got, inner) || bytes.Contains(got[:min(len(got), 60)], []byte("NTLMSSP")) {
			t.Errorf("%d bytes: got % x…", n, got[:min(len(got), 40)])
		}
	}
	want := "601a06062b0601050502a010300ea00d300b06092a864886f712010202"
	if got := hex.EncodeToString(ticket.WrapSPNEGO(nil)); len(got) != len(want)+8 || got[4:20] != want[4:20] {
		t.Errorf("empty: got %s", got)
	}
}

func TestCheckReply(t *testing.T) {
	for _, tt := range []struct {
		name, hex string
		ok        bool
	}{
		{"accept-completed", "a1073005a0030a0100", true},
		{"accept-completed with krb5", "a1143012a0030a0100a10b06092a864886f712010202", true},
		{"accept-completed with the Windows number", "a1143012a0030a0100a10b06092a864882f712010202", true},
		{"a mechanism that was cut short", "a10d300ba10906072a864886f71201", false},
		{"reject", "a1073005a0030a0102", false},
		{"accept-incomplete", "a1073005a0030a0101", false},
		{"request-mic", "a1073005a0030a0103", false},
		{"NTLM chosen", "a1153013a0030a0100a10c060a2b06010401823702020a", false},
		{"unknown state", "a1073005a0030a0109", false},
		{"truncated", "a1073005a003", false},
		{"empty", "", false},
		{"a NegTokenInit", "600606062b0601050502", false},
		{"trailing bytes", "a1073005a0030a010000", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := hex.DecodeString(tt.hex)
			if err != nil {
				t.Fatal(err)
			}
			err = ticket.CheckReply(b)
			if (err == nil) != tt.ok || err != nil && !errors.Is(err, ticket.ErrRejected) {
				t.Errorf("got %v, want accepted: %v", err, tt.ok)
			}
		})
	}
}

func FuzzCheckReply(f *testing.F) {
	f.Add([]byte{0xa1, 7, 0x30, 5, 0xa0, 3, 0x0a, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := ticket.CheckReply(b); err == nil && (len(b) < 4 || b[0] != 0xa1) {
			t.Fatalf("% x accepted", b)
		}
	})
}
