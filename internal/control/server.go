package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// grace is what requests get to finish in once Serve is asked to stop.
const grace = 2 * time.Second

// Config holds what a Server needs.
type Config struct {
	// Allow decides, before anything is read or written, whether a connection
	// is served: nil is yes. It must answer at once and is called by one
	// goroutine. Required.
	Allow func(net.Conn) error
	// Handler answers. It must give up when the request's context ends.
	// Required.
	Handler http.Handler
	Log     *slog.Logger // nil discards
}

// Server serves the control channel.
type Server struct{ config Config }

// New checks c.
func New(c Config) (*Server, error) {
	switch {
	case c.Allow == nil:
		return nil, errors.New("control server: no peer check")
	case c.Handler == nil:
		return nil, errors.New("control server: no handler")
	case c.Log == nil:
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{c}, nil
}

// Serve answers on l until ctx ends, which is no error, or l fails. Requests
// under way get two seconds to finish, then their contexts end. Serve closes l
// and returns when every goroutine it started has ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	var conns sync.WaitGroup
	srv := &http.Server{
		Handler:           guard(s.config.Handler),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       2 * headerTimeout,
		WriteTimeout:      callTimeout,
		IdleTimeout:       headerTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.config.Log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return requests },
		// The only word from net/http that a connection's goroutine is done.
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				conns.Done()
			}
		},
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(&checked{Listener: l, config: s.config}) }()

	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		stop, cancelStop := context.WithTimeout(requests, grace)
		// The time running out is no failure: Close below does the rest.
		_ = srv.Shutdown(stop)
		cancelStop()
		<-failed
	}
	// Connections first: a handler that gives up without a word would be
	// answered for with 200. (l has been closed, its error is of no use.)
	_ = srv.Close()
	cancel()
	conns.Wait()
	return err
}

// checked hands out the connections that Allow lets through and closes the
// others, which are not sent a byte.
type checked struct {
	net.Listener
	config Config
}

// Accept waits and tries again where the process or the machine has run out of
// descriptors or memory, and says so once for as long as that lasts.
func (l *checked) Accept() (net.Conn, error) {
	short := false
	for {
		c, err := l.Listener.Accept()
		if isShortage(err) {
			if !short {
				l.config.Log.Warn("control connections have to wait", "err", err)
				short = true
			}
			time.Sleep(shortagePause)
			continue
		}
		if err != nil {
			return nil, err
		}
		if short {
			l.config.Log.Info("control connections are accepted again")
			short = false
		}
		if err := l.config.Allow(c); err != nil {
			l.config.Log.Warn("control connection refused", "err", err)
			c.Close()
			continue
		}
		return c, nil
	}
}

// shortagePause is between two attempts to accept a connection.
const shortagePause = 200 * time.Millisecond

// isShortage reports an error that ends by itself, as the net package sees it:
// a connection that broke off too early is one, and waiting for the next does
// no harm.
func isShortage(err error) bool {
	var e interface{ Temporary() bool }
	return errors.As(err, &e) && e.Temporary()
}

// guard refuses what a browser may have sent, and bounds bodies.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, origin := r.Header["Origin"]
		_, referer := r.Header["Referer"]
		if r.Host != hostName || origin || referer {
			WriteError(w, http.StatusForbidden, "requests of browsers are not served here", "use the kerbpass command")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		next.ServeHTTP(w, r)
	})
}
