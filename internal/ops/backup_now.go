package ops

import (
	"context"
	"fmt"

	"berth/internal/contract"
)

// BackupNow is the verb `berth backup now`.
type BackupNow struct {
	Target
	JSON bool `name:"json" help:"Write JSON: the recovery point's ARN and the file system's id."`
}

// Help is the long help.
func (BackupNow) Help() string {
	return `It is kept for 35 days, as the daily ones are. The agent goes on meanwhile; what it writes while the backup is
taken may or may not be in it.

Examples:
  berth backup now --env prod

Exit codes: 0 backed up; 1 failed; 2 a flag cannot be used; 130 Ctrl-C: the backup goes on in AWS.`
}

// Run takes a backup, waits for it, and writes its name to stdio.Out.
func (b *BackupNow) Run(ctx context.Context, stdio Stdio) error {
	if err := b.needsEnv("backup now"); err != nil {
		return err
	}
	d, err := b.deployed(ctx, stdio)
	if err != nil {
		return err
	}
	client, stack := d.client, d.stack
	arn, err := backUp(ctx, stdio, client, stack)
	if err != nil {
		return err
	}
	fileSystem := stack.Outputs[contract.OutputFileSystemID]
	if b.JSON {
		return writeJSON(stdio.Out, map[string]string{"recovery_point": arn, "file_system": fileSystem})
	}
	_, err = fmt.Fprintf(stdio.Out, "File system %s is backed up: recovery point %s\n", fileSystem, arn)
	return err
}
