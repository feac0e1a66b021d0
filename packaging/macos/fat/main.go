// Command fat joins programs for several processors into one that macOS runs on
// each of them, as Apple's lipo does:
//
//	go run ./packaging/macos/fat OUT PROGRAM…
//
// The programs are 64-bit Mach-O executables, each for another processor. They
// are kept byte for byte, so a signature inside stays good.
package main

import (
	"bytes"
	"debug/macho"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fat:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: fat OUT PROGRAM…")
	}
	var programs [][]byte
	for _, path := range args[1:] {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		programs = append(programs, b)
	}
	b, err := join(programs)
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], b, 0o755)
}

// align is the larger of the two processors' pages, of 16 KiB, as a power of 2.
const align = 14

// join lays the programs behind a header that says where each begins.
func join(programs [][]byte) ([]byte, error) {
	type arch struct{ CPU, SubCPU, Offset, Size, Align uint32 }
	header := struct{ Magic, Count uint32 }{macho.MagicFat, uint32(len(programs))}
	archs := make([]arch, len(programs))
	end := int64(binary.Size(header) + binary.Size(archs))
	seen := map[macho.Cpu]bool{}
	for i, program := range programs {
		f, err := macho.NewFile(bytes.NewReader(program))
		if err != nil {
			return nil, fmt.Errorf("program %d: %w", i+1, err)
		}
		if f.Magic != macho.Magic64 || f.Type != macho.TypeExec {
			return nil, fmt.Errorf("program %d is not a 64-bit executable", i+1)
		}
		if seen[f.Cpu] {
			return nil, fmt.Errorf("two programs for %v", f.Cpu)
		}
		seen[f.Cpu] = true
		offset := (end + 1<<align - 1) >> align << align
		end = offset + int64(len(program))
		if end > math.MaxUint32 {
			return nil, errors.New("more than 4 GB")
		}
		archs[i] = arch{uint32(f.Cpu), f.SubCpu, uint32(offset), uint32(len(program)), align}
	}
	var out bytes.Buffer
	for _, v := range []any{header, archs} {
		if err := binary.Write(&out, binary.BigEndian, v); err != nil {
			return nil, err
		}
	}
	for i, a := range archs {
		out.Write(make([]byte, int(a.Offset)-out.Len()))
		out.Write(programs[i])
	}
	return out.Bytes(), nil
}
