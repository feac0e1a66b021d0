//go:build linux

package main_test

import (
	"encoding/json"
	"flag"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket/tickettest"
)

var pictures = flag.String("pictures", "", "folder for pictures of the desktop")

// panelConfig is a panel with nothing but a notification area.
const panelConfig = `<?xml version="1.0" encoding="UTF-8"?>
<channel name="xfce4-panel" version="1.0">
  <property name="configver" type="int" value="2"/>
  <property name="panels" type="array">
    <value type="int" value="1"/>
    <property name="dark-mode" type="bool" value="true"/>
    <property name="panel-1" type="empty">
      <property name="position" type="string" value="p=6;x=0;y=0"/>
      <property name="length" type="uint" value="100"/>
      <property name="position-locked" type="bool" value="true"/>
      <property name="size" type="uint" value="28"/>
      <property name="plugin-ids" type="array">
        <value type="int" value="1"/>
      </property>
    </property>
  </property>
  <property name="plugins" type="empty">
    <property name="plugin-1" type="string" value="systray"/>
  </property>
</channel>
`

// Xfce's real panel shows the icon, a click opens the menu, and what is chosen
// there reaches the helper.
func TestPanel(t *testing.T) {
	testenv.Root(t)
	xdotool := testenv.Tool(t, "xdotool")
	w := &world{kdc: tickettest.StartKDC(t), hosts: "/etc/hosts"}
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)

	home := t.TempDir()
	config := filepath.Join(home, "xfce4", "xfconf", "xfce-perchannel-xml")
	if err := os.MkdirAll(config, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config, "xfce4-panel.xml"), []byte(panelConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	display := testenv.Screen(t)
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CONFIG_HOME=" + home, "XDG_RUNTIME_DIR=" + home, "DISPLAY=" + display, "LANG=C.UTF-8", "NO_AT_BRIDGE=1", "GTK_THEME=Adwaita:dark"}
	env = append(env, "DBUS_SESSION_BUS_ADDRESS="+testenv.Bus(t, env))
	testenv.Program(t, env, "xfce4-panel", "--disable-wm-check")
	panel := image.Rect(0, 0, 1000, 28)
	testenv.See(t, display, "a panel", func(img image.Image) bool { return count(img, panel, black) == 0 })

	h := start(t, setup{world: w, cache: cache, bare: true, args: []string{"--upstream", "http://proxy.corp.example:8080"}, env: env[4:]})
	seen := testenv.See(t, display, "the icon of a valid ticket", func(img image.Image) bool { return count(img, panel, green) > 40 })
	icon := middle(seen, panel, green)

	below := image.Rect(0, 30, 1000, 700)
	do(t, xdotool, display, "mousemove", strconv.Itoa(icon.X), strconv.Itoa(icon.Y), "click", "3")
	menu := testenv.See(t, display, "the menu", func(img image.Image) bool { return count(img, below, notBlack) > 40_000 })
	save(t, "tray", menu, changed(seen, menu).Union(image.Rect(0, 0, 1, 1)))
	do(t, xdotool, display, "key", "Down", "Down", "Return") // Renew now, then the switch
	testenv.See(t, display, "the icon of a switch that is off", func(img image.Image) bool { return count(img, panel, green) < 10 })
	var st struct{ Proxy struct{ Kerberos bool } }
	out, _ := h.kerbpass("status", "--json")
	if err := json.Unmarshal([]byte(out), &st); err != nil || st.Proxy.Kerberos {
		t.Errorf("the switch in the menu does nothing: %v\n%s", err, out)
	}
}

func do(t *testing.T, xdotool, display string, args ...string) {
	t.Helper()
	cmd := exec.Command(xdotool, args...)
	cmd.Env = append(os.Environ(), "DISPLAY="+display)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("xdotool %v: %v\n%s", args, err, out)
	}
}

func black(c color.RGBA) bool    { return c.R == 0 && c.G == 0 && c.B == 0 }
func light(c color.RGBA) bool    { return c.R > 200 && c.G > 200 && c.B > 200 }
func notBlack(c color.RGBA) bool { return !black(c) }
func green(c color.RGBA) bool    { return int(c.G) > int(c.R)+40 && int(c.G) > int(c.B)+20 }

// each calls f for every pixel of img within r that is like.
func each(img image.Image, r image.Rectangle, like func(color.RGBA) bool, f func(x, y int)) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			if like(color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)) {
				f(x, y)
			}
		}
	}
}

func count(img image.Image, r image.Rectangle, like func(color.RGBA) bool) (n int) {
	each(img, r, like, func(_, _ int) { n++ })
	return n
}

func middle(img image.Image, r image.Rectangle, like func(color.RGBA) bool) image.Point {
	var sum image.Point
	n := 0
	each(img, r, like, func(x, y int) { sum, n = sum.Add(image.Pt(x, y)), n+1 })
	return sum.Div(n)
}

// changed is the smallest rectangle outside which two pictures are the same.
func changed(before, after image.Image) (box image.Rectangle) {
	each(after, after.Bounds(), func(color.RGBA) bool { return true }, func(x, y int) {
		if before.At(x, y) != after.At(x, y) {
			box = box.Union(image.Rect(x, y, x+1, y+1))
		}
	})
	return box
}

// save writes a part of img if -pictures asks for it.
func save(t *testing.T, name string, img image.Image, box image.Rectangle) {
	t.Helper()
	if *pictures == "" {
		return
	}
	out := image.NewRGBA(image.Rect(0, 0, box.Dx(), box.Dy()))
	draw.Draw(out, out.Bounds(), img, box.Min, draw.Src)
	f, err := os.Create(filepath.Join(*pictures, name+".png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, out); err != nil {
		t.Fatal(err)
	}
}
