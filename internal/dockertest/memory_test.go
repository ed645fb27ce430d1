package dockertest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What one container has compiled the next one is given, and what nobody has compiled is missed.
func TestWhatIsCompiledIsRemembered(t *testing.T) {
	d := &Daemon{log: filepath.Join(t.TempDir(), "log")}
	program, err := d.gocache(t.Context(), "../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", t.TempDir())
	if d.memory, err = remember(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.memory.Close()
	ask := func(home string, requests ...string) (answers []string) {
		t.Helper()
		asking := exec.CommandContext(t.Context(), program, d.memory.URL+"/cache/")
		asking.Env, asking.Stdin = []string{"HOME=" + home}, strings.NewReader(strings.Join(requests, "\n\n"))
		output, err := asking.Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(output)), "\n")
	}
	content := []byte("compiled")
	output := sha256.Sum256(content)
	action, other := sha256.Sum256([]byte("action")), sha256.Sum256([]byte("other"))
	text := func(value any) string {
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return string(encoded)
	}
	put := fmt.Sprintf(`{"ID":1,"Command":"put","ActionID":%s,"OutputID":%s,"BodySize":%d}`, text(action[:]), text(output[:]), len(content))
	get := func(id int, action []byte) string {
		return fmt.Sprintf(`{"ID":%d,"Command":"get","ActionID":%s}`, id, text(action))
	}

	first, second := t.TempDir(), t.TempDir()
	if answers := ask(first, put, text(content), `{"ID":2,"Command":"close"}`); len(answers) != 3 || !strings.Contains(answers[0], `"get","put","close"`) || strings.Contains(answers[1], "Err") || answers[2] != `{"ID":2}` {
		t.Fatalf("%q", answers)
	}
	var found struct {
		Miss     bool
		OutputID []byte
		Size     int
		DiskPath string
	}
	if answers := ask(second, get(1, action[:])); len(answers) != 2 || json.Unmarshal([]byte(answers[1]), &found) != nil {
		t.Fatalf("%q", answers)
	}
	kept, err := os.ReadFile(found.DiskPath)
	if err != nil || found.Miss || !bytes.Equal(kept, content) || found.Size != len(content) || !bytes.Equal(found.OutputID, output[:]) || !strings.HasPrefix(found.DiskPath, second) {
		t.Errorf("%+v, %q, %v", found, kept, err)
	}
	if answers := ask(second, get(1, other[:])); len(answers) != 2 || answers[1] != `{"ID":1,"Miss":true}` {
		t.Errorf("%q", answers)
	}
}

func TestModulesComeFromHereFirst(t *testing.T) {
	d := &Daemon{}
	var err error
	if d.memory, err = remember(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.memory.Close()
	got := d.withMemory([]string{"GOTOOLCHAIN=local", "GOPROXY=https://proxy.example"})
	want := []string{"GOTOOLCHAIN=local", "GOPROXY=" + d.memory.URL + "/mod,https://proxy.example", "GOCACHEPROG=/usr/local/bin/gocache " + d.memory.URL + "/cache/"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q, not %q", got, want)
	}
}
