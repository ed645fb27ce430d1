package session

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/internal/api"
)

// oldVolume is a volume as format 1 left it: with a lock, and a session whose work dir is in its snapshot alone.
func oldVolume(t *testing.T) (dir, id string) {
	t.Helper()
	dir, id = t.TempDir(), "0190d3a0-0000-7000-8000-000000000001"
	home := filepath.Join(dir, "sessions", id)
	must(t, os.MkdirAll(home, 0o700))
	log := `{"type":"message","time":"2026-01-02T03:04:05.006Z","message_id":"m0","text":"do it"}
{"type":"state","time":"2026-01-02T03:04:05.007Z","state":"queued"}
{"type":"state","time":"2026-01-02T03:04:05.008Z","state":"preparing"}
{"type":"state","time":"2026-01-02T03:04:05.009Z","state":"running","attempt":1}
{"type":"claude","time":"2026-01-02T03:04:06Z","claude":{"type":"result","result":"done","total_cost_usd":0.5}}
{"type":"state","time":"2026-01-02T03:04:07Z","state":"succeeded"}
`
	snapshot := `{"version":1,"log_size":` + strconv.Itoa(strings.Index(log, `{"type":"claude"`)) + `,"id":"` + id + `","state":"running","prompt":"do it","repo":"https://h/p",
"created_at":"2026-01-02T03:04:05Z","attempts":1,"events":4,"messages":1,"prepared":true,"base":"abc","branch":"berth/000000000001","work_dir":"/w/tree",
"started_at":"2026-01-02T03:04:05.008Z","idle_starts":1,"asked_at":"2026-01-02T03:04:05.007Z","running_from":"2026-01-02T03:04:05.009Z","last_event_at":"2026-01-02T03:04:05.009Z"}`
	must(t, os.WriteFile(filepath.Join(home, logFile), []byte(log), 0o600))
	must(t, os.WriteFile(filepath.Join(home, snapshotFile), []byte(snapshot), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "lock"), []byte("1\n"), 0o600))
	return dir, id
}

func TestAnOlderVolumeIsMigrated(t *testing.T) {
	dir, id := oldVolume(t)
	store := openStore(t, dir, newClock().now)
	s := store.Get(id)
	if s == nil {
		t.Fatal(store.Broken())
	}
	if record := s.Record(); record.State != api.Succeeded || record.Result != "done" || record.CostUSD != 0.5 || !record.Prepared || record.Base != "abc" {
		t.Errorf("it is read as %+v", record)
	}
	must(t, s.Ask(api.Event{MessageID: "m1", Text: "more"}))
	must(t, store.Close())

	again := openStore(t, dir, newClock().now)
	record := again.Get(id).Record()
	if record.Version != Version || record.State != api.Queued || !record.Prepared || record.Base != "abc" || record.Branch != "berth/000000000001" ||
		record.WorkDir != "/w/tree" || record.Messages != 2 || record.CostUSD != 0.5 {
		t.Errorf("it has become %+v", record)
	}
	consistent(t, again.Get(id))
	if _, err := os.Stat(filepath.Join(dir, "lock")); err == nil {
		t.Error("the lock of format 1 is left")
	}
	must(t, again.Close())
}

func TestANewerVolumeIsRefused(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, formatFile), []byte(`{"version":3}`), 0o600))
	if _, err := Open(dir, time.Now); err == nil || !strings.Contains(err.Error(), "format 3") || !strings.Contains(err.Error(), "newer") {
		t.Errorf("the error is %v", err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, daemonsDir)); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v: it was changed", entries, err)
	}
}
