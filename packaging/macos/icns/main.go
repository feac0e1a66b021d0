// Command icns puts pictures into a file of icons for macOS:
//
//	go run ./packaging/macos/icns OUT PNG…
//
// Each PNG is a square of 16, 32, 64, 128, 256 or 512 pixels; one of these
// serves the screens of twice the dots as well.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image/png"
	"os"
)

// kinds are the names for a size, first the one for common screens.
var kinds = map[int][]string{
	16:  {"icp4"},
	32:  {"icp5", "ic11"},
	64:  {"icp6", "ic12"},
	128: {"ic07"},
	256: {"ic08", "ic13"},
	512: {"ic09", "ic14"},
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "icns:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: icns OUT PNG…")
	}
	var icons bytes.Buffer
	for _, path := range args[1:] {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := add(&icons, b); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	out := append([]byte("icns"), binary.BigEndian.AppendUint32(nil, uint32(8+icons.Len()))...)
	return os.WriteFile(args[0], append(out, icons.Bytes()...), 0o644)
}

func add(icons *bytes.Buffer, picture []byte) error {
	c, err := png.DecodeConfig(bytes.NewReader(picture))
	if err != nil {
		return err
	}
	names := kinds[c.Width]
	if names == nil || c.Height != c.Width {
		return fmt.Errorf("no icon has %d×%d pixels", c.Width, c.Height)
	}
	for _, name := range names {
		icons.WriteString(name)
		icons.Write(binary.BigEndian.AppendUint32(nil, uint32(8+len(picture))))
		icons.Write(picture)
	}
	return nil
}
