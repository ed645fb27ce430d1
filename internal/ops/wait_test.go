package ops

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestUntilWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := func(context.Context) (bool, error) { return false, nil }
		begun := time.Now()
		err := untilWithin(t.Context(), time.Second, time.Hour, "it is not there", never)
		if err == nil || err.Error() != "it is not there after 1h0m0s" || time.Since(begun) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		called, cancel := context.WithCancel(t.Context())
		cancel()
		if err := untilWithin(called, time.Second, time.Hour, "it is not there", never); !errors.Is(err, context.Canceled) {
			t.Errorf("called off, it is %v", err)
		}
		if err := untilWithin(t.Context(), time.Second, time.Hour, "", func(context.Context) (bool, error) { return true, nil }); err != nil {
			t.Error(err)
		}
	})
}
