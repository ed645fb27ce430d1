package server_test

import (
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowWriter is a follower's side of an answer, which takes what is written when its reader lets it.
type slowWriter struct {
	header  http.Header
	text    strings.Builder
	reading func()
}

func (w *slowWriter) Header() http.Header                { return w.header }
func (w *slowWriter) WriteHeader(int)                    {}
func (w *slowWriter) FlushError() error                  { return nil }
func (w *slowWriter) SetWriteDeadline(_ time.Time) error { return nil }
func (w *slowWriter) Write(p []byte) (int, error) {
	w.reading()
	return w.text.Write(p)
}

// Of thousands of followers a few write at a time, so that other requests have not to wait for a round of them all. Those
// that do not read hold nobody up.
func TestFollowersTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, _ := handler(&fakeAgent{events: lines(nil, `{"a":1}`, `{"b":2}`, `{"c":3}`)})
		follow := func(reading func()) string {
			w := &slowWriter{header: http.Header{}, reading: reading}
			h.ServeHTTP(w, request("GET", "/v1/sessions/"+id+"/events", ""))
			return w.text.String()
		}
		const want = "id: 0\ndata: {\"a\":1}\n\nid: 1\ndata: {\"b\":2}\n\nid: 2\ndata: {\"c\":3}\n\n"
		var all sync.WaitGroup
		var writing, most atomic.Int64
		for range 300 {
			all.Go(func() {
				text := follow(func() {
					now := writing.Add(1)
					for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
					}
					time.Sleep(time.Millisecond) //nolint:forbidigo // of the bubble's clock
					writing.Add(-1)
				})
				if text != want {
					t.Errorf("a follower got %q", text)
				}
			})
		}
		all.Wait()
		if bound := int64(max(4, 2*runtime.GOMAXPROCS(0))); most.Load() > bound {
			t.Errorf("%d followers write at a time, want %d at most", most.Load(), bound)
		}

		read := make(chan struct{})
		for range 300 {
			all.Go(func() { follow(func() { <-read }) })
		}
		synctest.Wait()
		if text := follow(func() {}); text != want {
			t.Errorf("beside followers that do not read, one got %q", text)
		}
		close(read)
		all.Wait()
	})
}
