package ops

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// A process that has ended counts as gone before anybody has asked for its exit status.
func TestGone(t *testing.T) {
	if gone(os.Getpid()) {
		t.Error("this process is gone")
	}
	child := exec.Command(os.Args[0], "-test.run=^$")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait() //nolint:errcheck // it is over
	ticker, late := time.NewTicker(10*time.Millisecond), time.NewTimer(20*time.Second)
	defer ticker.Stop()
	defer late.Stop()
	for !gone(child.Process.Pid) {
		select {
		case <-ticker.C:
		case <-late.C:
			t.Fatal("it never goes")
		}
	}
}
