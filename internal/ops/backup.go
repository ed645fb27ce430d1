package ops

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"berth/internal/cloud"
)

// Backup is the verb `berth backup` with those below it.
type Backup struct {
	Now     BackupNow     `cmd:"" help:"Back the file system up now, and wait for it."`
	List    BackupList    `cmd:"" help:"List the backups that there are."`
	Restore BackupRestore `cmd:"" help:"Restore a backup to a new file system, and have the agent use it."`
	Verify  BackupVerify  `cmd:"" help:"The drill: restore a backup beside the live volume, read its sessions, and remove it again."`
}

// backupDays is how long a backup is kept that was asked for: as long as the daily ones.
const backupDays = 35

// backUp takes a backup and waits for it. It returns the recovery point's ARN.
func backUp(ctx context.Context, stdio Stdio, client *cloud.Client, stack *cloud.Stack) (arn string, err error) {
	id, err := client.StartBackup(ctx, stack, backupDays)
	if err != nil {
		return "", err
	}
	flags := stack.Flags()
	onward := fmt.Sprintf("backup job %s goes on in AWS: `berth backup list %s` shows it when it is done", id, flags)
	job, err := waitForJob(ctx, stdio, client, "backup", onward, func(ctx context.Context) (*cloud.Job, error) { return client.BackupJob(ctx, id) })
	if err != nil {
		return "", err
	}
	return job.Made, nil
}

// waitForJob waits until a job of AWS Backup has ended, and tells of its progress.
func waitForJob(ctx context.Context, stdio Stdio, client *cloud.Client, what, onward string, ask func(context.Context) (*cloud.Job, error)) (job *cloud.Job, err error) {
	said, failed := "", error(nil)
	err = untilTold(ctx, pollEvery(stdio.Getenv), onward, func(ctx context.Context) (bool, error) {
		if job, err = ask(ctx); err != nil {
			return false, err
		}
		if now := progress(job); now != said {
			fmt.Fprintf(stdio.Err, "berth: %s job %s: %s\n", what, oneLine(job.ID, 60), now)
			said = now
		}
		done, bad := job.Done()
		failed = bad
		return done || bad != nil, nil
	})
	if err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, &cloud.Error{
			What: "the " + what + " failed: " + failed.Error(), Cause: failed,
			Next: "mend that, and run the same command again; `aws backup describe-" + what + "-job --" + what + "-job-id " + job.ID + client.RegionFlag() + "` tells all that AWS knows",
		}
	}
	return job, nil
}

func progress(job *cloud.Job) string {
	text := strings.ToLower(job.State)
	if percent := strings.TrimSuffix(job.Percent, "%"); percent != "" && job.State == "RUNNING" {
		text += ", " + percent + " %"
	}
	return oneLine(text, 100)
}

// choosePoint finds a recovery point: the one that is named, by its ARN or the end of it, else the newest that is whole.
func choosePoint(ctx context.Context, client *cloud.Client, stack *cloud.Stack, named string) (*cloud.RecoveryPoint, error) {
	points, err := client.RecoveryPoints(ctx, stack.Vault())
	if err != nil {
		return nil, err
	}
	for i := range points {
		switch {
		case named == "" && points[i].Complete():
			return &points[i], nil
		case named != "" && strings.HasSuffix(points[i].ARN, named) && !points[i].Complete():
			return nil, &cloud.Error{What: fmt.Sprintf("recovery point %s is %s, and cannot be restored", points[i].ID(), points[i].Status), Next: "`berth backup list " + stack.Flags() + "` shows the others"}
		case named != "" && strings.HasSuffix(points[i].ARN, named):
			return &points[i], nil
		}
	}
	if named != "" {
		return nil, &cloud.Error{What: fmt.Sprintf("the vault %s has no recovery point %.120q", stack.Vault(), named), Next: "`berth backup list " + stack.Flags() + "` shows those that it has"}
	}
	return nil, &cloud.Error{What: "the vault " + stack.Vault() + " has no recovery point that can be restored", Next: "`berth backup now " + stack.Flags() + "` makes one"}
}

// describePoint is a recovery point in a sentence.
func describePoint(point *cloud.RecoveryPoint, now time.Time) string {
	return fmt.Sprintf("%s of %s UTC (%s ago, %s)", point.ID(), point.Created.UTC().Format("2006-01-02 15:04"), age(point.Created, now), bytesText(point.SizeBytes))
}

func tell(to io.Writer, format string, args ...any) {
	fmt.Fprintf(to, "berth: "+format+"\n", args...)
}
