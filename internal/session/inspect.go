package session

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"berth/internal/api"
)

// Inspection is what a volume holds.
type Inspection struct {
	Sessions int               `json:"sessions"` // that can be read to their last event
	Events   int               `json:"events"`
	States   map[api.State]int `json:"states"`
	Newest   time.Time         `json:"newest"`  // the newest event
	Broken   []string          `json:"broken"`  // what is wrong with those that cannot be read
	Mirrors  int               `json:"mirrors"` // git mirrors, with the sessions' checkpoints
}

// Inspect reads every event of every session of a volume, without being one of its daemons: it writes nothing.
func Inspect(dir string) (*Inspection, error) {
	entries, err := os.ReadDir(filepath.Join(dir, sessionsDir))
	if err != nil {
		return nil, fmt.Errorf("the volume cannot be read: %w", err)
	}
	found := &Inspection{States: map[api.State]int{}, Broken: []string{}}
	for _, entry := range entries {
		if _, err := uuid.Parse(entry.Name()); err != nil || !entry.IsDir() {
			continue
		}
		session, err := open(filepath.Join(dir, sessionsDir, entry.Name()), time.Now, Owner{})
		events := 0
		if err == nil {
			err = session.Each(func(event api.Event) {
				events++
				if event.Time.After(found.Newest) {
					found.Newest = event.Time
				}
			})
		}
		if err != nil {
			found.Broken = append(found.Broken, fmt.Sprintf("%s: %v", entry.Name(), err))
			continue
		}
		found.Sessions++
		found.Events += events
		found.States[session.State()]++
	}
	mirrors, err := fs.Glob(os.DirFS(dir), "repos/*.git") // the directory may be called as a pattern is
	if err != nil {
		return nil, err
	}
	found.Mirrors = len(mirrors)
	return found, nil
}
