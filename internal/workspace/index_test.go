package workspace

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// What a session left out, in whatever number, must not keep the agent from what it did not.
func TestBelow(t *testing.T) {
	t.Parallel()
	paths := make([]string, 50_000)
	for i := range paths {
		paths[i] = fmt.Sprintf("dir/of/many/file-%d", i)
	}
	out := setOf(append(paths, "a/b"))
	for _, path := range append(paths, "a/b", "a/b/c/d", "a/b/") {
		if !below(path, out) {
			t.Fatalf("%s is not below one of them", path)
		}
	}
	for _, path := range []string{"a", "a/bc", "b/a/b", "dir/of/many", "dir/of/many/file-", ""} {
		if below(path, out) {
			t.Fatalf("%q is below one of them", path)
		}
	}
}

// What goes on beside a checkpoint must not take the agent with it: whoever waits for it can stop the fault.
func TestAFaultMeanwhileIsTheWaitersOwn(t *testing.T) {
	t.Parallel()
	wait := meanwhile(func() error { panic("broken") })
	defer func() {
		if fault := recover(); fault != "broken" {
			t.Errorf("the fault is %v", fault)
		}
	}()
	t.Errorf("it ended with %v", wait())
}

// Nor must what watches over git while it looks at a tree.
func TestAFaultOfTheWatcherIsTheWaitersOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var broken *scratch
		stop := broken.unplug(t.Context())
		time.Sleep(plugged) //nolint:forbidigo // of the bubble's clock
		synctest.Wait()
		defer func() {
			if recover() == nil {
				t.Error("nobody learns of it")
			}
		}()
		stop()
	})
}
