package cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/backup"
	"github.com/aws/aws-sdk-go-v2/service/backup/types"

	"berth/internal/contract"
)

// RecoveryPoint is a copy of the file system in the stack's vault.
type RecoveryPoint struct {
	ARN, Status, Message string
	FileSystem           string // whose copy it is
	Created, Expires     time.Time
	SizeBytes            int64
}

// Complete reports whether it can be restored.
func (p *RecoveryPoint) Complete() bool {
	return p.Status == string(types.RecoveryPointStatusCompleted)
}

// ID is the last part of the ARN.
func (p *RecoveryPoint) ID() string { return p.ARN[strings.LastIndex(p.ARN, ":")+1:] }

// Vault is the name of the stack's backup vault, also where a failed deployment left no outputs.
func (s *Stack) Vault() string {
	if vault := s.Outputs[contract.OutputBackupVaultName]; vault != "" {
		return vault
	}
	return s.Names.Stack()
}

func (c *Client) backup() *backup.Client { return backup.NewFromConfig(c.Config) }

// RecoveryPoints lists what is in a vault, the newest first. A vault that is not there holds nothing; one that cannot be looked
// into is an error, and not an empty one.
func (c *Client) RecoveryPoints(ctx context.Context, vault string) (points []RecoveryPoint, err error) {
	pages := backup.NewListRecoveryPointsByBackupVaultPaginator(c.backup(), &backup.ListRecoveryPointsByBackupVaultInput{BackupVaultName: &vault})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if missing := new(types.ResourceNotFoundException); errors.As(err, &missing) {
			return nil, nil
		}
		if err != nil {
			return nil, Explain(err)
		}
		for i := range page.RecoveryPoints {
			each := &page.RecoveryPoints[i]
			point := RecoveryPoint{
				ARN: aws.ToString(each.RecoveryPointArn), Status: string(each.Status), Message: aws.ToString(each.StatusMessage),
				Created: aws.ToTime(each.CreationDate), SizeBytes: aws.ToInt64(each.BackupSizeInBytes),
			}
			resource := aws.ToString(each.ResourceArn)
			point.FileSystem = resource[strings.LastIndex(resource, "/")+1:]
			if each.CalculatedLifecycle != nil {
				point.Expires = aws.ToTime(each.CalculatedLifecycle.DeleteAt)
			}
			points = append(points, point)
		}
	}
	slices.SortStableFunc(points, func(a, b RecoveryPoint) int { return b.Created.Compare(a.Created) })
	return points, nil
}

// hasVault reports whether there is a vault of a name.
func (c *Client) hasVault(ctx context.Context, name string) (bool, error) {
	_, err := c.backup().DescribeBackupVault(ctx, &backup.DescribeBackupVaultInput{BackupVaultName: &name})
	if missing := new(types.ResourceNotFoundException); errors.As(err, &missing) {
		return false, nil
	}
	return err == nil, Explain(err)
}

// DeleteRecoveryPoint deletes a copy for good.
func (c *Client) DeleteRecoveryPoint(ctx context.Context, vault, arn string) error {
	_, err := c.backup().DeleteRecoveryPoint(ctx, &backup.DeleteRecoveryPointInput{BackupVaultName: &vault, RecoveryPointArn: &arn})
	if missing := new(types.ResourceNotFoundException); errors.As(err, &missing) {
		return nil
	}
	return Explain(err)
}

// DeleteVault deletes an empty vault; one that is not there is deleted already.
func (c *Client) DeleteVault(ctx context.Context, vault string) error {
	_, err := c.backup().DeleteBackupVault(ctx, &backup.DeleteBackupVaultInput{BackupVaultName: &vault})
	if missing := new(types.ResourceNotFoundException); errors.As(err, &missing) {
		return nil
	}
	return Explain(err)
}

// Job is a backup or a restoration under way.
type Job struct {
	ID, State, Message, Percent string
	Made                        string // the ARN of the recovery point, or of the file system
}

// Done reports whether the job has ended well, and says why if it has ended badly.
func (j *Job) Done() (bool, error) {
	switch j.State {
	case "COMPLETED":
		return true, nil
	case "FAILED", "ABORTED", "EXPIRED", "PARTIAL":
		reason := strings.Join(strings.Fields(j.Message), " ")
		if reason == "" {
			reason = "AWS Backup gives no reason"
		}
		return false, fmt.Errorf("job %s is %s: %s", j.ID, j.State, reason)
	}
	return false, nil
}

// StartBackup asks AWS Backup for a copy of the stack's file system, to be kept as long as the daily ones.
func (c *Client) StartBackup(ctx context.Context, stack *Stack, keepDays int64) (job string, err error) {
	role := stack.Outputs[contract.OutputBackupRoleARN]
	answer, err := c.backup().StartBackupJob(ctx, &backup.StartBackupJobInput{
		BackupVaultName: aws.String(stack.Vault()), IamRoleArn: &role, ResourceArn: aws.String(c.fileSystemARN(stack)),
		Lifecycle: &types.Lifecycle{DeleteAfterDays: &keepDays},
	})
	if err != nil {
		return "", Explain(err)
	}
	return aws.ToString(answer.BackupJobId), nil
}

// BackupJob asks how a backup is.
func (c *Client) BackupJob(ctx context.Context, id string) (*Job, error) {
	answer, err := c.backup().DescribeBackupJob(ctx, &backup.DescribeBackupJobInput{BackupJobId: &id})
	if err != nil {
		return nil, Explain(err)
	}
	return &Job{id, string(answer.State), aws.ToString(answer.StatusMessage), aws.ToString(answer.PercentDone), aws.ToString(answer.RecoveryPointArn)}, nil
}

// StartRestore asks AWS Backup to restore a copy to a new file system. token makes the request one, however often it is sent.
func (c *Client) StartRestore(ctx context.Context, stack *Stack, point *RecoveryPoint, token string) (job string, err error) {
	known, err := c.backup().GetRecoveryPointRestoreMetadata(ctx, &backup.GetRecoveryPointRestoreMetadataInput{
		BackupVaultName: aws.String(stack.Vault()), RecoveryPointArn: &point.ARN,
	})
	if err != nil {
		return "", Explain(err)
	}
	metadata := maps.Clone(known.RestoreMetadata)
	if metadata == nil {
		metadata = map[string]string{"file-system-id": point.FileSystem}
	}
	metadata["newFileSystem"], metadata["CreationToken"] = "true", token
	metadata["Encrypted"], metadata["PerformanceMode"] = "true", "generalPurpose" // as the stack makes its own
	role := stack.Outputs[contract.OutputBackupRoleARN]
	answer, err := c.backup().StartRestoreJob(ctx, &backup.StartRestoreJobInput{
		RecoveryPointArn: &point.ARN, IamRoleArn: &role, Metadata: metadata, IdempotencyToken: &token, ResourceType: aws.String("EFS"),
	})
	if err != nil {
		return "", Explain(err)
	}
	return aws.ToString(answer.RestoreJobId), nil
}

// RestoreJob asks how a restoration is.
func (c *Client) RestoreJob(ctx context.Context, id string) (*Job, error) {
	answer, err := c.backup().DescribeRestoreJob(ctx, &backup.DescribeRestoreJobInput{RestoreJobId: &id})
	if err != nil {
		return nil, Explain(err)
	}
	return &Job{id, string(answer.Status), aws.ToString(answer.StatusMessage), aws.ToString(answer.PercentDone), aws.ToString(answer.CreatedResourceArn)}, nil
}

// fileSystemARN is the ARN of the stack's file system, in the partition and the account of the stack.
func (c *Client) fileSystemARN(stack *Stack) string {
	parts := strings.SplitN(stack.ID, ":", 6) // arn:partition:cloudformation:region:account:stack/…
	if len(parts) < 6 {
		parts = []string{"arn", "aws", "", c.Region, "", ""}
	}
	return strings.Join([]string{parts[0], parts[1], "elasticfilesystem", parts[3], parts[4], "file-system/" + stack.Outputs[contract.OutputFileSystemID]}, ":")
}
