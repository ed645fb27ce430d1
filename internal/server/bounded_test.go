package server

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// Connections beyond the bound are closed, and there is room again when one of the others is.
func TestConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close() //nolint:errcheck // it only listens
	listener := &bounded{Listener: inner, most: 2}
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- connection
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		connection, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = connection.Close() })
		return connection
	}
	dial()
	dial()
	first, second := <-accepted, <-accepted
	third := dial()
	_ = third.SetReadDeadline(time.Now().Add(time.Minute))
	var late net.Error
	if _, err := third.Read(make([]byte, 1)); err == nil || errors.As(err, &late) && late.Timeout() {
		t.Errorf("the third connection is not closed: %v", err)
	}
	_, _ = first.Close(), first.Close() // twice makes room for one only
	fourth := dial()
	if connection := <-accepted; connection.RemoteAddr().String() != fourth.LocalAddr().String() {
		t.Error("another connection is accepted")
	}
	_ = second.Close()
	dial()
	if _, err := io.WriteString(<-accepted, "x"); err != nil {
		t.Error(err)
	}
}
