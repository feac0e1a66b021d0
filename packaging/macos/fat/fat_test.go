package main

import (
	"bytes"
	"debug/macho"
	"encoding/binary"
	"strings"
	"testing"
)

// program is a Mach-O file without anything to load.
func program(cpu macho.Cpu, kind macho.Type, size int) []byte {
	var b bytes.Buffer
	h := macho.FileHeader{Magic: macho.Magic64, Cpu: cpu, SubCpu: 3, Type: kind}
	if err := binary.Write(&b, binary.LittleEndian, h); err != nil {
		panic(err)
	}
	return append(b.Bytes(), bytes.Repeat([]byte{byte(cpu)}, size)...)
}

func TestJoin(t *testing.T) {
	programs := [][]byte{program(macho.CpuAmd64, macho.TypeExec, 20000), program(macho.CpuArm64, macho.TypeExec, 5)}
	b, err := join(programs)
	if err != nil {
		t.Fatal(err)
	}
	f, err := macho.NewFatFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range f.Arches {
		if a.Offset%(1<<14) != 0 || !bytes.Equal(b[a.Offset:a.Offset+a.Size], programs[i]) || a.FatArchHeader.SubCpu != 3 {
			t.Errorf("program %d: %+v", i, a.FatArchHeader)
		}
	}
}

func TestJoinRefuses(t *testing.T) {
	good := program(macho.CpuAmd64, macho.TypeExec, 5)
	for want, programs := range map[string][][]byte{
		"two programs for CpuAmd64":        {good, good},
		"program 2 is not a 64-bit execut": {good, program(macho.CpuArm64, macho.TypeDylib, 5)},
		"program 1: invalid magic number":  {[]byte("#!/bin/sh and so on")},
		"program 2: EOF":                   {good, nil},
	} {
		if _, err := join(programs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
