package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"

	"kerbpass/internal/control"
	"kerbpass/internal/settings"
)

// Requests of the control channel.
type (
	switchRequest struct {
		Enabled bool `json:"enabled"`
	}
	// bypassRefusal names each entry that can never match, for an editor of the
	// list.
	bypassRefusal struct {
		Error   string         `json:"error"`
		Hint    string         `json:"hint"`
		Code    string         `json:"code"`
		Refused []refusedEntry `json:"refused"`
	}
	refusedEntry struct {
		Entry      string   `json:"entry"`
		Reason     string   `json:"reason"`
		Suggestion []string `json:"suggestion"`
		Code       string   `json:"code"` // of the reason, "" none
	}
	bypassRequest struct {
		Add    []string `json:"add"`
		Remove []string `json:"remove"`
	}
)

var errNoWindow = failf(exitFailed, "End it and start the one with the window: kerbpass quit, then kerbpass", "The running helper has no window: it was started by \"kerbpass run\".")

// handler answers the control channel; everything is below /v1/.
func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		control.WriteJSON(w, a.report(r.Context()))
	})
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, r *http.Request) {
		control.WriteJSON(w, map[string]string{"config": a.cfg.store.Path()})
	})
	mux.HandleFunc("GET /v1/why", func(w http.ResponseWriter, r *http.Request) {
		answer, err := a.why(r.Context(), r.URL.Query().Get("target"))
		if err != nil {
			writeError(w, err)
			return
		}
		control.WriteJSON(w, answer)
	})
	mux.HandleFunc("POST /v1/kerberos", func(w http.ResponseWriter, r *http.Request) {
		var req switchRequest
		if decode(w, r, &req) {
			writeResult(w, setKerberos(a.cfg.store, req.Enabled))
		}
	})
	mux.HandleFunc("POST /v1/pause", a.servePause)
	mux.HandleFunc("POST /v1/passwords", func(w http.ResponseWriter, r *http.Request) {
		a.resetLogins()
		control.WriteJSON(w, struct{}{})
	})
	mux.HandleFunc("POST /v1/window", func(w http.ResponseWriter, r *http.Request) {
		err := error(errNoWindow)
		if a.openWindow != nil {
			err = a.openWindow(r.Context())
		}
		writeResult(w, err)
	})
	mux.HandleFunc("POST /v1/link", a.serveLink)
	mux.HandleFunc("GET /v1/bypass", func(w http.ResponseWriter, r *http.Request) {
		control.WriteJSON(w, listBypass(a.cfg.store.Snapshot()))
	})
	mux.HandleFunc("POST /v1/bypass", func(w http.ResponseWriter, r *http.Request) {
		var req bypassRequest
		if !decode(w, r, &req) {
			return
		}
		if refused := refusals(req.Add); len(refused) > 0 {
			_, bad := checkEntries(req.Add)
			control.WriteStatus(w, http.StatusBadRequest, bypassRefusal{bad.text, bad.hint, "entries", refused})
			return
		}
		writeResult(w, editBypass(a.cfg.store, req))
	})
	mux.HandleFunc("GET /v1/gateway", func(w http.ResponseWriter, r *http.Request) {
		control.WriteJSON(w, gatewayOf(a.cfg.store.Snapshot()))
	})
	mux.HandleFunc("POST /v1/gateway", func(w http.ResponseWriter, r *http.Request) {
		var req gatewayRequest
		if decode(w, r, &req) {
			writeResult(w, editGateway(a.cfg.store, req))
		}
	})
	mux.HandleFunc("GET /v1/metrics", a.serveMetrics)
	mux.HandleFunc("GET /v1/activity", a.serveActivity)
	mux.HandleFunc("GET /v1/found", a.serveFound)
	mux.HandleFunc("POST /v1/quit", func(w http.ResponseWriter, r *http.Request) {
		control.WriteJSON(w, quitReply{os.Getpid()})
		a.log.Info("quit was asked for")
		a.quit()
	})
	return mux
}

func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		writeError(w, caused(failf(exitUsage, "", "The request is not understood: %v.", err), errBadRequest))
		return false
	}
	return true
}

func writeResult(w http.ResponseWriter, err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	control.WriteJSON(w, struct{}{})
}

// writeError tells a wrong request from one that failed.
func writeError(w http.ResponseWriter, err error) {
	status := http.StatusConflict
	var e *exitError
	if errors.As(err, &e) && e.code == exitUsage {
		status = http.StatusBadRequest
	}
	writeRefusal(w, status, err)
}

// settingsError words why an edit was refused.
func settingsError(err error) error {
	if err == nil {
		return nil
	}
	hint := "Check the permissions of the file and its folder."
	switch {
	case errors.Is(err, settings.ErrInvalid):
		hint = "See: kerbpass --help"
	case errors.Is(err, settings.ErrLocked):
		hint = lockedHint
	case errors.Is(err, settings.ErrBroken), errors.Is(err, settings.ErrByHand):
		hint = "Correct the file with an editor; it was not changed."
	case errors.Is(err, settings.ErrNewer):
		hint = "Update Kerbpass."
	case errors.Is(err, settings.ErrBusy):
		hint = "Try again."
	}
	return caused(failf(exitFailed, hint, "Not saved: %v.", err), err, errNotSaved)
}
