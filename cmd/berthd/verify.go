package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"berth/internal/session"
)

// verify is the check of a restored volume. `berth backup verify` and `berth backup restore` run it in a task that has the
// restored file system's root in the volume's place.
type verify struct {
	Dir   string `arg:"" help:"The restored file system's root."`
	Name  string `arg:"" help:"The volume's directory there."`
	Place bool   `help:"Move the volume out of the directory that AWS Backup restored it to, so that it is where the agent looks."`
}

// verified is what berth reads from the task's log: one line.
type verified struct {
	Verified string `json:"verified"` // the volume, as seen from the root
	*session.Inspection
}

// Run writes what the volume holds as one line of JSON. A session that cannot be read is an error.
func (v verify) Run() error { return v.run(os.Stdout) }

func (v verify) run(to io.Writer) error {
	volume, err := v.find()
	if err != nil {
		return err
	}
	found, err := session.Inspect(filepath.Join(v.Dir, volume))
	if err != nil {
		return err
	}
	if v.Place && len(found.Broken) == 0 && volume != v.Name {
		if err := os.Rename(filepath.Join(v.Dir, volume), filepath.Join(v.Dir, v.Name)); err != nil {
			return fmt.Errorf("moving the restored volume: %w", err)
		}
		volume = v.Name
	}
	line, err := json.Marshal(verified{volume, found})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(to, "%s\n", line); err != nil {
		return err
	}
	if len(found.Broken) > 0 {
		return fmt.Errorf("%d sessions cannot be read; the first: %s", len(found.Broken), found.Broken[0])
	}
	return nil
}

// find finds the volume: where it is to be, else in the one directory that a restoration left
// (https://docs.aws.amazon.com/aws-backup/latest/devguide/restoring-efs.html).
func (v verify) find() (string, error) {
	is := func(name string) bool {
		info, err := os.Stat(filepath.Join(v.Dir, name, "sessions"))
		return err == nil && info.IsDir()
	}
	if is(v.Name) {
		return v.Name, nil
	}
	restored, err := fs.Glob(os.DirFS(v.Dir), "aws-backup-restore_*") // the directory may be called as a pattern is
	if err != nil {
		return "", err
	}
	var found []string
	for _, each := range restored {
		if name := filepath.Join(each, v.Name); is(name) {
			found = append(found, name)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%s holds no volume %s, neither at its root nor in a restored directory (%d of those)", v.Dir, v.Name, len(restored))
	case 1:
		return found[0], nil
	}
	return "", errors.New("several restored directories hold the volume: " + found[0] + ", " + found[1])
}
