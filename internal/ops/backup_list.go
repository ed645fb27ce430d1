package ops

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"berth/internal/cloud"
)

// BackupList is the verb `berth backup list`.
type BackupList struct {
	Target
	JSON bool `name:"json" help:"Write JSON."`
}

// Help is the long help.
func (BackupList) Help() string {
	return `The newest comes first. berth backup restore and verify take a backup's name, or the end of it.

Examples:
  berth backup list --env prod
  berth backup list --env prod --json | jq -r .[0].recovery_point

Exit codes: 0 listed; 1 failed; 2 a flag cannot be used.`
}

// recoveryPoint is a line of the list.
type recoveryPoint struct {
	ARN        string     `json:"recovery_point"`
	FileSystem string     `json:"file_system"`
	Status     string     `json:"status"`
	Message    string     `json:"message,omitempty"`
	Created    time.Time  `json:"created_at"`
	Expires    *time.Time `json:"expires_at"`
	SizeBytes  int64      `json:"size_bytes"`
}

// Run writes the list to stdio.Out.
func (b *BackupList) Run(ctx context.Context, stdio Stdio) error {
	if err := b.needsEnv("backup list"); err != nil {
		return err
	}
	client, err := b.cloud(ctx)
	if err != nil {
		return err
	}
	stack, err := client.Stack(ctx, b.names()) // in whatever state: the vault is there
	if err != nil {
		return err
	}
	points, err := client.RecoveryPoints(ctx, stack.Vault())
	if err != nil {
		return err
	}
	if b.JSON {
		list := []recoveryPoint{}
		for i := range points {
			each := recoveryPoint{points[i].ARN, points[i].FileSystem, points[i].Status, points[i].Message, points[i].Created, nil, points[i].SizeBytes}
			if !points[i].Expires.IsZero() {
				each.Expires = &points[i].Expires
			}
			list = append(list, each)
		}
		return writeJSON(stdio.Out, list)
	}
	if len(points) == 0 {
		tell(stdio.Err, "the vault %s is empty; the first daily backup comes at 05:00 UTC, and `berth backup now %s` makes one at once", stack.Vault(), stack.Flags())
		return nil
	}
	return writePoints(stdio.Out, points, time.Now())
}

func writePoints(to io.Writer, points []cloud.RecoveryPoint, now time.Time) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RECOVERY POINT\tMADE (UTC)\tAGE\tSIZE\tSTATUS\tFILE SYSTEM\tDELETED")
	for i := range points {
		deleted := "never"
		if !points[i].Expires.IsZero() {
			deleted = points[i].Expires.UTC().Format(time.DateOnly)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", oneLine(points[i].ID(), 60), points[i].Created.UTC().Format("2006-01-02 15:04"), age(points[i].Created, now),
			bytesText(points[i].SizeBytes), oneLine(strings.ToLower(points[i].Status+" "+points[i].Message), 80), points[i].FileSystem, deleted)
	}
	return table.Flush()
}
