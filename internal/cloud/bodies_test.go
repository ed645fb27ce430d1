package cloud

import (
	"net/http/httptrace"
	"sync/atomic"
	"testing"
)

// No call's body ends in an error, however soon the answer comes; without WithPlainBodies some do.
func TestPlainBodies(t *testing.T) {
	_, client := serve(t)
	var written, failed atomic.Int64
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(about httptrace.WroteRequestInfo) {
		written.Add(1)
		if about.Err != nil {
			failed.Add(1)
		}
	}})
	const calls = 100
	for range calls {
		if _, err := client.Stacks(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if written.Load() < calls || failed.Load() > 0 {
		t.Errorf("of %d requests, %d could not be written to their ends", written.Load(), failed.Load())
	}
}
