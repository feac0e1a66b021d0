//go:build linux

package main

import (
	"flag"
	"io"
	"net"
)

// relay is the limit: the least that a Go program can do between two sockets.
// It accepts, connects and splices, looks at nothing and adds nothing.
func relay(args []string) error {
	fs := flag.NewFlagSet("relay", flag.ContinueOnError)
	listen := fs.String("listen", "", "where to listen")
	to := fs.String("to", "", "where to forward")
	if err := fs.Parse(args); err != nil {
		return err
	}
	l, err := net.Listen("tcp4", *listen)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go join(c.(*net.TCPConn), *to)
	}
}

func join(client *net.TCPConn, to string) {
	defer client.Close()
	d, err := net.Dial("tcp4", to)
	if err != nil {
		return
	}
	defer d.Close()
	server := d.(*net.TCPConn)
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(server, client)
		server.CloseWrite()
	}()
	io.Copy(client, server)
	client.CloseWrite()
	<-done
}
