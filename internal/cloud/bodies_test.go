package cloud

import (
	"net/http/httptrace"
	"testing"
)

// No call's body ends in an error, however soon the answer comes; without WithPlainBodies some do.
func TestPlainBodies(t *testing.T) {
	_, client := serve(t)
	const calls = 100
	written := make(chan error, 10*calls)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(about httptrace.WroteRequestInfo) { written <- about.Err }})
	for range calls {
		if _, err := client.Stacks(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for range calls { // the last one's end may be told after its answer
		if err := <-written; err != nil {
			t.Errorf("a request could not be written to its end: %v", err)
		}
	}
}
