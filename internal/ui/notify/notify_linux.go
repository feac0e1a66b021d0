//go:build linux

package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"image"
	"image/draw"
	"image/png"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// https://specifications.freedesktop.org/notification-spec/latest/
const (
	serverName   = "org.freedesktop.Notifications"
	serverPath   = "/org/freedesktop/Notifications"
	busInterface = "org.freedesktop.DBus"
)

const (
	answerLimit = 5 * time.Second // for any answer on the bus
	// forgetAfter is when a note that no server has reported closed counts as
	// closed. Some never report it.
	forgetAfter = 24 * time.Hour
	maxShown    = 32 // notes remembered; the oldest is withdrawn for another
)

// A session is what is known of the desktop. One goroutine owns it.
type session struct {
	cfg    Config
	choose func(key, action string)
	image  *imageData

	// The connection is our own: the signals and the closing of one that is
	// shared would concern others. nil while there is none.
	conn    *dbus.Conn
	signals chan *dbus.Signal // closed with conn
	server  string            // who owns the server's name, "" nobody known
	can     []string          // its capabilities
	shown   map[string]shownNote
}

type shownNote struct {
	id   uint32 // the server's
	note Note
	at   time.Time
}

// serve connects when there is something to show, and again after the bus or
// the server went.
func (n *Notifier) serve(ctx context.Context, choose func(key, action string)) error {
	s := &session{cfg: n.cfg, choose: choose, image: decodeIcon(n.cfg), shown: map[string]shownNote{}}
	defer s.leave()
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-n.requests:
			r.done <- s.handle(r)
		case sig, ok := <-s.signals:
			if !ok {
				s.disconnect()
				continue
			}
			s.hear(sig)
		}
	}
}

// leave withdraws all notes, whose buttons would do nothing any more.
func (s *session) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
	defer cancel()
	for key := range s.shown {
		if err := s.withdraw(ctx, key); err != nil {
			s.cfg.Log.Debug("withdraw a note", "err", err)
		}
	}
	s.disconnect()
}

func (s *session) disconnect() {
	if s.conn != nil {
		s.conn.Close()
	}
	s.conn, s.signals = nil, nil
	s.newServer("")
}

// newServer forgets all that the one before knew.
func (s *session) newServer(owner string) {
	s.server, s.can = owner, nil
	clear(s.shown)
}

func (s *session) handle(r request) error {
	ctx, cancel := context.WithTimeout(r.ctx, answerLimit)
	defer cancel()
	if r.note == nil {
		return s.withdraw(ctx, r.key)
	}
	err := s.showConnected(ctx, *r.note)
	if s.lost(err) {
		err = s.showConnected(ctx, *r.note)
	}
	return err
}

func (s *session) showConnected(ctx context.Context, note Note) error {
	if err := s.connect(ctx); err != nil {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return s.show(ctx, note)
}

// lost reports whether err says that the bus went before anybody answered, and
// drops the connection then: its end is known here a moment late.
func (s *session) lost(err error) bool {
	var answer dbus.Error
	if s.conn == nil || err == nil || errors.As(err, &answer) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	s.disconnect()
	return true
}

// connect makes sure that there is a connection. It starts no bus.
func (s *session) connect(ctx context.Context) error {
	if s.conn != nil && s.conn.Connected() {
		return nil
	}
	s.disconnect()
	conn, err := sessionBus(ctx)
	if err != nil {
		return err
	}
	signals := make(chan *dbus.Signal, 1)
	conn.Signal(signals)
	err = errors.Join(
		conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(serverName), dbus.WithMatchObjectPath(serverPath),
			dbus.WithMatchInterface(serverName)),
		conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(busInterface), dbus.WithMatchInterface(busInterface),
			dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, serverName)))
	if err != nil {
		conn.Close()
		return fmt.Errorf("subscribe on the session bus: %w", err)
	}
	s.conn, s.signals = conn, signals
	return nil
}

// sessionBus returns a connection of our own.
func sessionBus(ctx context.Context) (*dbus.Conn, error) {
	for part := range strings.SplitSeq(os.Getenv("DBUS_SESSION_BUS_ADDRESS"), ";") {
		// Others connect without a time limit.
		if part != "" && part != "autolaunch:" && !strings.HasPrefix(part, "unix:") {
			return nil, fmt.Errorf("session bus at %q: only unix: addresses are used; correct DBUS_SESSION_BUS_ADDRESS", part)
		}
	}
	// The default handler lets signals overtake each other.
	conn, err := dbus.SessionBusPrivateNoAutoStartup(dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return nil, fmt.Errorf("connect to the session bus: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
	if err == nil {
		err = conn.Hello()
	}
	if !stop() {
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("sign in at the session bus: %w", err)
	}
	return conn, nil
}

// show shows note, at another server if the one we know has gone.
func (s *session) show(ctx context.Context, note Note) error {
	err := s.notify(ctx, note)
	if isError(err, ".Error.ServiceUnknown", ".Error.NameHasNoOwner") && s.server != "" {
		s.newServer("")
		err = s.notify(ctx, note)
	}
	return unsupported(err)
}

func (s *session) notify(ctx context.Context, note Note) error {
	if err := s.meetServer(ctx); err != nil {
		return err
	}
	s.makeRoom(ctx, note.Key)
	var id uint32
	err := s.call(ctx, s.server, "Notify", s.cfg.Name, s.shown[note.Key].id, "", note.Title,
		s.body(note), s.actions(note), s.hints(note), int32(-1)).Store(&id)
	if err != nil {
		return err
	}
	s.shown[note.Key] = shownNote{id, note, time.Now()}
	return nil
}

// call asks a server: the one of that address on the bus or, by the common
// name, whoever there is, which the bus may start for that.
func (s *session) call(ctx context.Context, server, method string, args ...any) *dbus.Call {
	return s.conn.Object(server, serverPath).CallWithContext(ctx, serverName+"."+method, 0, args...)
}

// isError reports whether the bus or a server answered with one of these.
func isError(err error, names ...string) bool {
	var e dbus.Error
	return errors.As(err, &e) && slices.Contains(names, strings.TrimPrefix(e.Name, busInterface))
}

// unsupported marks errors that mean that there is no server.
func unsupported(err error) error {
	if isError(err, ".Error.ServiceUnknown", ".Error.NameHasNoOwner", ".Error.NoReply", ".Error.UnknownMethod",
		".Error.Spawn.ExecFailed", ".Error.Spawn.ChildExited", ".Error.Spawn.ServiceNotFound") {
		return fmt.Errorf("%w: no notification server: %w", errors.ErrUnsupported, err)
	}
	return err
}

// meetServer learns who the server is and what it can do.
func (s *session) meetServer(ctx context.Context) error {
	if s.server != "" {
		return nil
	}
	var can []string
	if err := s.call(ctx, serverName, "GetCapabilities").Store(&can); err != nil {
		return err
	}
	var owner string
	err := s.conn.BusObject().CallWithContext(ctx, busInterface+".GetNameOwner", 0, serverName).Store(&owner)
	if err != nil {
		return err
	}
	s.newServer(owner)
	s.can = can
	return nil
}

// makeRoom bounds what is remembered.
func (s *session) makeRoom(ctx context.Context, key string) {
	oldest := ""
	for k, n := range s.shown {
		if time.Since(n.at) > forgetAfter {
			delete(s.shown, k)
		} else if oldest == "" || n.at.Before(s.shown[oldest].at) {
			oldest = k
		}
	}
	if _, replaces := s.shown[key]; !replaces && len(s.shown) >= maxShown {
		if err := s.withdraw(ctx, oldest); err != nil {
			s.cfg.Log.Debug("withdraw a note", "err", err)
		}
	}
}

func (s *session) body(note Note) string {
	body := note.Body
	if !slices.Contains(s.can, "actions") {
		body = withHint(note)
	}
	if slices.Contains(s.can, "body-markup") {
		body = html.EscapeString(body)
	}
	return body
}

func (s *session) actions(note Note) []string {
	list := []string{} // not nil, whose type D-Bus could not tell
	if slices.Contains(s.can, "actions") {
		for _, a := range note.Actions {
			list = append(list, a.ID, a.Label)
		}
	}
	return list
}

func (s *session) hints(note Note) map[string]dbus.Variant {
	hints := map[string]dbus.Variant{"urgency": dbus.MakeVariant(byte(note.Urgency))}
	if s.image != nil {
		hints["image-data"] = dbus.MakeVariant(*s.image)
	}
	return hints
}

func (s *session) withdraw(ctx context.Context, key string) error {
	n, ok := s.shown[key]
	if !ok {
		return nil
	}
	delete(s.shown, key)
	err := s.call(ctx, s.server, "CloseNotification", n.id).Err
	var e dbus.Error
	if errors.As(err, &e) {
		return nil // it was closed meanwhile, or the server is gone and the note with it
	}
	return err
}

// hear takes in one signal. Every program of the user can send us some, so the
// sender counts.
func (s *session) hear(sig *dbus.Signal) {
	switch {
	case sig.Sender == busInterface && sig.Name == busInterface+".NameOwnerChanged":
		var name, before, after string
		if dbus.Store(sig.Body, &name, &before, &after) == nil && name == serverName && before == s.server {
			s.newServer("") // to be met when there is something to show
		}
	case sig.Sender != s.server:
	case sig.Name == serverName+".ActionInvoked":
		var id uint32
		var action string
		if dbus.Store(sig.Body, &id, &action) == nil {
			s.invoked(id, action)
		}
	case sig.Name == serverName+".NotificationClosed":
		var id, reason uint32
		if dbus.Store(sig.Body, &id, &reason) == nil {
			delete(s.shown, s.key(id))
		}
	}
}

// invoked tells of an action. The note is gone with it, as the specification
// has it, so that an impatient second click is not another action.
func (s *session) invoked(id uint32, action string) {
	key := s.key(id)
	n, ok := s.shown[key]
	if !ok || !offers(n.note, action) {
		return
	}
	delete(s.shown, key)
	s.choose(key, action)
}

// key returns whose note the server's id is, "" nobody's.
func (s *session) key(id uint32) string {
	for key, n := range s.shown {
		if n.id == id {
			return key
		}
	}
	return ""
}

// imageData is a picture as the specification wants it.
type imageData struct {
	Width, Height, RowStride int32
	HasAlpha                 bool
	BitsPerSample, Channels  int32
	Data                     []byte
}

// decodeIcon returns nil, and says so in the log, if it cannot.
func decodeIcon(c Config) *imageData {
	if len(c.Icon) == 0 {
		return nil
	}
	decoded, err := png.Decode(bytes.NewReader(c.Icon))
	if err != nil {
		c.Log.Warn("notes go without icon", "err", err)
		return nil
	}
	size := decoded.Bounds().Size()
	img := image.NewNRGBA(image.Rectangle{Max: size})
	draw.Draw(img, img.Rect, decoded, decoded.Bounds().Min, draw.Src)
	return &imageData{int32(size.X), int32(size.Y), int32(img.Stride), true, 8, 4, img.Pix}
}
