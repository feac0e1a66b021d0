package ticket_test

import (
	"bytes"
	"encoding/asn1"
	"testing"

	"kerbpass/internal/ticket"
)

// An independent DER reader finds in the wrapping what RFC 4178 asks for.
func TestWrapSPNEGOReadBack(t *testing.T) {
	for _, size := range []int{1, 0x50, 0x7f, 0x80, 0xff, 0x100, 777, 0xffff, 0x10000, 100_000} {
		krb5 := bytes.Repeat([]byte{0xaa}, size)
		var outer asn1.RawValue
		rest, err := asn1.UnmarshalWithParams(ticket.WrapSPNEGO(krb5), &outer, "application,tag:0")
		if err != nil || len(rest) != 0 {
			t.Fatalf("%d: %v, %d bytes behind", size, err, len(rest))
		}
		var oid asn1.ObjectIdentifier
		inner, err := asn1.Unmarshal(outer.Bytes, &oid)
		if err != nil || oid.String() != "1.3.6.1.5.5.2" {
			t.Fatalf("%d: mechanism %v, %v", size, oid, err)
		}
		var init struct {
			MechTypes []asn1.ObjectIdentifier `asn1:"explicit,tag:0"`
			MechToken []byte                  `asn1:"explicit,tag:2"`
		}
		if rest, err := asn1.UnmarshalWithParams(inner, &init, "explicit,tag:0"); err != nil || len(rest) != 0 {
			t.Fatalf("%d: %v, %d bytes behind", size, err, len(rest))
		}
		if len(init.MechTypes) != 1 || init.MechTypes[0].String() != "1.2.840.113554.1.2.2" {
			t.Errorf("%d: offers %v, want krb5 alone", size, init.MechTypes)
		}
		if !bytes.Equal(init.MechToken, krb5) {
			t.Errorf("%d: the token came out changed", size)
		}
	}
}
