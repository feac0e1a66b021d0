// Command zip packs folders into a zip archive, the same bytes for the same
// files: sorted by name, with the time of SOURCE_DATE_EPOCH, and of the modes
// only whether a file can be run. It keeps links and refuses what is neither
// file, folder nor link.
//
//	go run ./packaging/zip ARCHIVE FOLDER NAME…
//
// packs each NAME, a file or folder in FOLDER, under that name.
package main

import (
	"archive/zip"
	"cmp"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		fmt.Fprintln(os.Stderr, "zip:", err)
		os.Exit(1)
	}
}

func run(args []string, epoch string) (err error) {
	if len(args) < 3 {
		return errors.New("usage: zip ARCHIVE FOLDER NAME…")
	}
	seconds, err := strconv.ParseInt(cmp.Or(epoch, "0"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	f, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z := zip.NewWriter(f)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	for _, name := range args[2:] {
		err := filepath.WalkDir(filepath.Join(args[1], name), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return add(z, args[1], path, d, time.Unix(seconds, 0).UTC())
		})
		if err != nil {
			return err
		}
	}
	return z.Close()
}

// add packs one entry, named relative to root.
func add(z *zip.Writer, root, path string, d fs.DirEntry, at time.Time) error {
	name, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	h := &zip.FileHeader{Name: filepath.ToSlash(name), Modified: at, Method: zip.Deflate}
	var content io.Reader
	switch mode := info.Mode(); {
	case mode.IsDir():
		h.Name, h.Method = h.Name+"/", zip.Store
		h.SetMode(fs.ModeDir | 0o755)
	case mode.Type() == fs.ModeSymlink:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		h.SetMode(fs.ModeSymlink | 0o777)
		content = strings.NewReader(target)
	case mode.IsRegular():
		h.SetMode(0o644)
		if mode.Perm()&0o100 != 0 {
			h.SetMode(0o755)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		content = f
	default:
		return fmt.Errorf("%s is neither file, folder nor link", path)
	}
	w, err := z.CreateHeader(h)
	if err != nil || content == nil {
		return err
	}
	_, err = io.Copy(w, content)
	return err
}
