package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever hangs, berthd ends before it is killed.
func TestItEndsAtLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, told := context.WithCancel(t.Context())
		var said bytes.Buffer
		status := make(chan int, 1)
		endAtLast(ctx, lastMoment, &said, func(code int) { status <- code })
		<-time.After(24 * time.Hour)
		if len(status) > 0 {
			t.Fatal("it ended without being told to")
		}
		told()
		before := time.Now()
		code := <-status
		if took := time.Since(before); code != 1 || took >= 120*time.Second || !strings.Contains(said.String(), "does not end") {
			t.Errorf("after %v it ends with %d, and says %q", took, code, said.String())
		}
	})
}

// One that ends in time is left alone.
func TestItEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, told := context.WithCancel(t.Context())
		stop := endAtLast(ctx, lastMoment, &bytes.Buffer{}, func(code int) { t.Errorf("it is ended, with %d", code) })
		told()
		<-time.After(lastMoment - time.Second)
		stop()
		<-time.After(time.Hour)
	})
}
