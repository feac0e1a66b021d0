//go:build linux

package tray_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"testing"

	"kerbpass/internal/ui"
	"kerbpass/internal/ui/tray"
)

// A process can show one tray only, so each test starts this test program as a
// helper that shows one. It is told what to do by lines on standard input
// and answers in lines on standard output.
const helperVariable = "KERBPASS_TRAY_HELPER"

// An order is one line to the helper.
type order struct {
	Show    *ui.State // show it
	Visible bool      // print "visible true" or "visible false"
	Release bool      // let the handler that is busy return
	Again   bool      // print what a second Run says
	Quit    bool      // end Run
}

func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) == "" {
		os.Exit(m.Run())
	}
	if err := helper(); err != nil {
		fmt.Println("end", err)
		return
	}
	fmt.Println("end")
}

func helper() error {
	released := make(chan struct{})
	t, err := tray.New(tray.Config{
		Icon:   func(i ui.Icon) []byte { return solid(colours[i]) },
		Title:  "Kerbpass",
		Tapped: ui.CommandSettings,
		OnCommand: func(c ui.Command, arg string) {
			fmt.Printf("command %s %s\n", c, arg)
			if c == ui.CommandRenew {
				<-released
			}
		},
	})
	if err != nil {
		return err
	}
	ctx, quit := context.WithCancel(context.Background())
	defer quit()
	go func() {
		defer quit()
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			var o order
			if err := json.Unmarshal(in.Bytes(), &o); err != nil {
				panic(err)
			}
			switch {
			case o.Show != nil:
				t.Show(*o.Show)
			case o.Visible:
				fmt.Println("visible", t.Visible())
			case o.Release:
				released <- struct{}{}
			case o.Again:
				fmt.Println("again", t.Run(ctx))
			case o.Quit:
				close(released)
				return
			}
		}
	}()
	return t.Run(ctx)
}

var colours = map[ui.Icon]color.NRGBA{
	ui.IconValid:   {G: 0xff, A: 0xff},
	ui.IconExpired: {R: 0xff, A: 0xff},
	ui.IconOff:     {R: 0x80, G: 0x80, B: 0x80, A: 0xff},
}

// solid is a PNG of one colour.
func solid(c color.NRGBA) []byte {
	img := image.NewNRGBA(image.Rect(0, 0, 2, 2))
	for i := range 4 {
		img.SetNRGBA(i%2, i/2, c)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return b.Bytes()
}
