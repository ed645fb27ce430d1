package daemon

import (
	"strings"
	"testing"
)

func TestDeniedTools(t *testing.T) {
	for times, want := range map[int]string{1: "was denied the use of a tool,", 2: "was denied 2 uses of tools,"} {
		if got := denied(times); !strings.Contains(got, want) {
			t.Errorf("%d: %s", times, got)
		}
	}
}
