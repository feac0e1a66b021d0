package krb5

import (
	"encoding/binary"
	"fmt"
	"time"
)

// marshal renders a FILE cache of version 4, the notes first, as MIT does.
// [parseCache] reads it back as it was.
func (c *cacheFile) marshal() ([]byte, error) {
	b := []byte{5, 4, 0, 12, 0, tagOffset, 0, 8}
	b = binary.BigEndian.AppendUint32(b, uint32(c.offset/time.Second))
	b = binary.BigEndian.AppendUint32(b, uint32(c.offset%time.Second/time.Microsecond))
	b = c.client.append(b)
	for i := range c.notes {
		b = c.notes[i].append(b)
	}
	for i := range c.creds {
		b = c.creds[i].append(b)
	}
	if n := len(c.notes) + len(c.creds); len(b) > maxCacheSize || n > maxCreds {
		return nil, fmt.Errorf("%d entries of together %d bytes are too much for a ticket cache", n, len(b))
	}
	return b, nil
}

func (p principal) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(p.kind))
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.parts)))
	b = appendData(b, p.realm)
	for _, s := range p.parts {
		b = appendData(b, s)
	}
	return b
}

func (e *cred) append(b []byte) []byte {
	b = e.server.append(e.client.append(b))
	b = binary.BigEndian.AppendUint16(b, uint16(e.etype))
	b = appendData(b, e.key)
	for _, t := range []time.Time{e.auth, e.start, e.end, e.renew} {
		b = binary.BigEndian.AppendUint32(b, seconds(t))
	}
	b = append(b, e.skey)
	b = binary.BigEndian.AppendUint32(b, uint32(e.flags))
	b = appendList(b, e.addresses)
	b = appendList(b, e.authData)
	b = appendData(b, e.ticket)
	return appendData(b, e.second)
}

// seconds is the form of a time in a cache, 0 for the zero time.
func seconds(t time.Time) uint32 {
	if t.IsZero() {
		return 0
	}
	return uint32(t.Unix())
}

func appendData[T string | []byte](b []byte, data T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(data))), data...)
}

// appendList adds a counted list that brings its count along; nil is empty.
func appendList(b, list []byte) []byte {
	if list == nil {
		list = make([]byte, 4)
	}
	return append(b, list...)
}
