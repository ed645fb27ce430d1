package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"berth/internal/api"
	"berth/internal/session"
)

// restoredVolume makes a volume with one session, where AWS Backup restores it to.
func restoredVolume(t *testing.T) (root, id string) {
	t.Helper()
	root = t.TempDir()
	store, err := session.Open(filepath.Join(root, "aws-backup-restore_2026-11-28T02-00-00Z", "claude-code-dev"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	made, _, err := store.Create(api.NewSession{Prompt: "hello"}, uuid.NewString(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return root, made.ID()
}

func TestVerify(t *testing.T) {
	root, _ := restoredVolume(t)
	for _, place := range []bool{false, true, true} { // the second time it is there already
		var out bytes.Buffer
		if err := (verify{Dir: root, Name: "claude-code-dev", Place: place}).run(&out); err != nil {
			t.Fatal(err)
		}
		var said struct {
			Verified string
			Sessions int
		}
		if err := json.Unmarshal(out.Bytes(), &said); err != nil {
			t.Fatal(err)
		}
		if said.Sessions != 1 || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("it says %s", out.String())
		}
		if at := filepath.Join(root, "claude-code-dev", "sessions"); place && (said.Verified != "claude-code-dev" || !isDir(at)) {
			t.Errorf("the volume is not where the agent looks: %s", out.String())
		}
	}
}

func TestVerifyOfWhatIsBroken(t *testing.T) {
	root, id := restoredVolume(t)
	volume := filepath.Join(root, "aws-backup-restore_2026-11-28T02-00-00Z", "claude-code-dev")
	for _, name := range []string{"session.json", "events.jsonl"} { // a damaged snapshot alone is made anew from the log
		if err := os.WriteFile(filepath.Join(volume, "sessions", id, name), []byte("{\n{\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	err := (verify{Dir: root, Name: "claude-code-dev", Place: true}).run(&out)
	if err == nil || !strings.Contains(err.Error(), id) {
		t.Errorf("a session that cannot be read: %v", err)
	}
	if !isDir(volume) {
		t.Error("a volume that cannot be read was put in the agent's place")
	}
	if err := (verify{Dir: t.TempDir(), Name: "claude-code-dev"}).run(&out); err == nil {
		t.Error("an empty file system passes")
	}
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}
