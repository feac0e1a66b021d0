// Package control is the channel between the running helper and everything
// that talks to it: the command line, the settings window, a second start. It
// is HTTP/1.1 with JSON bodies over a Unix socket in the user's runtime
// folder, or in the cache folder where there is none, and on Windows over a
// named pipe ([Path]).
//
// Both ends check who is at the other one, through a function the caller
// supplies; file modes and access lists alone are not trusted. Requests that a
// browser could have made are refused, so that no web page can ever drive the
// helper.
package control

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"
)

// Errors that callers test for with [errors.Is].
var (
	// ErrRunning: another helper of this user has the channel.
	ErrRunning = errors.New("the helper is already running")
	// ErrNotRunning: nobody listens on the channel.
	ErrNotRunning = errors.New("the helper is not running")
)

const (
	// hostName is the only Host of a request. No browser can be brought to
	// send it by way of DNS, since it is not a host on any network.
	hostName = "kerbpass"

	maxHeader   = 16 << 10
	maxRequest  = 1 << 20
	maxResponse = 8 << 20

	headerTimeout = 5 * time.Second
	callTimeout   = 2 * time.Minute // doctor waits for KDCs
)

// Path returns where the channel of this user is.
//
// On Linux it is a socket, kerbpass/control.sock below the first of these that
// is an absolute folder of this user which nobody else can enter:
// XDG_RUNTIME_DIR, as lookup knows it, and /run/user/<uid>, so that a call by
// sudo, cron or ssh, where the variable is missing, finds the helper of the
// user's session. Else, and on macOS always, the socket lies below the user's
// cache folder. On Windows it is a pipe named after the user.
//
// lookup is [os.LookupEnv] or a test's.
func Path(lookup func(name string) (string, bool)) (string, error) {
	return channelPath(lookup)
}

// Listen opens the channel. [ErrRunning] tells that another process holds it;
// what a crash left behind is replaced. Closing the listener lets the next
// process in.
//
// On Linux and macOS the folder of the socket is created with mode 0700 where
// there is none, and refused if it is a link, another user's or writable by
// others. On Windows the pipe admits nobody else and nobody over the network.
func Listen(path string) (net.Listener, error) {
	return listen(path)
}

// A RemoteError is the helper's own answer that a call did not succeed.
type RemoteError struct {
	Status  int    // HTTP status, not 2xx
	Message string // what was wrong; never empty
	Hint    string // what to do, may be empty
}

func (e *RemoteError) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + "; " + e.Hint
}

type errorBody struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// WriteJSON answers 200 with v, or 500 when v cannot be encoded.
func WriteJSON(w http.ResponseWriter, v any) {
	writeJSON(w, http.StatusOK, v)
}

// WriteError answers status with a message and a hint, which a [Client] turns
// into a [*RemoteError].
func WriteError(w http.ResponseWriter, status int, message, hint string) {
	writeJSON(w, status, errorBody{message, hint})
}

// WriteStatus answers with v and a status of the caller's choice. For an error,
// v has the fields of [WriteError] among others: "error" and "hint".
func WriteStatus(w http.ResponseWriter, status int, v any) { writeJSON(w, status, v) }

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status = http.StatusInternalServerError
		b, _ = json.Marshal(errorBody{Error: "answer cannot be encoded: " + err.Error()})
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(append(b, '\n')) // a client that has gone is not our error
}
