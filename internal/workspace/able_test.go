package workspace

import (
	"strings"
	"testing"
)

func TestAble(t *testing.T) {
	if err := Able(); err != nil {
		t.Error(err)
	}
	for said, right := range map[string]bool{
		"git version 2.39.5": true, "git version 2.39.5 (Apple Git-154)": true, "git version 3.0.rc1": true, "git version 2.37.0.windows.1": true,
		"git version 2.36.9": false, "git version 1.99.0": false, "": false, "bash: no": false, "git version x.y": false,
	} {
		if err := enough(said); (err == nil) != right {
			t.Errorf("%q: %v", said, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if err := Able(); err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Error(err)
	}
}
