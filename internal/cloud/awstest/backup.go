package awstest

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Backups is what AWS Backup has and does.
type Backups struct {
	Points map[string][]*Point // by vault

	Polls      int    // answers in which a job is still running
	Fails      string // a job's status message: every job fails with it
	NeverDone  bool   // jobs run on
	FileSystem string // what a restoration makes

	jobs map[string]*job
}

// Point is a recovery point.
type Point struct {
	ARN, Status, FileSystem string
	Created, Expires        time.Time
	Size                    int
}

type job struct {
	kind, made string
	polls      int
}

// Backups is AWS Backup's part of the world.
func (w *World) Backups() *Backups {
	found, is := w.Extra["backup"].(*Backups)
	if !is {
		found = &Backups{Points: map[string][]*Point{}, FileSystem: "fs-0aaaaaaaaaaaaaaa1", jobs: map[string]*job{}}
		w.Extra["backup"] = found
	}
	return found
}

// AddPoint adds a recovery point to the vault of a stack, made at a time.
func (w *World) AddPoint(vault, fileSystem string, made time.Time) *Point {
	b := w.Backups()
	point := &Point{
		ARN:    fmt.Sprintf("arn:aws:backup:%s:%s:recovery-point:1eb3b5e7-9eb0-435a-a80b-%012d", Region, Account, len(b.Points[vault])+1),
		Status: "COMPLETED", FileSystem: fileSystem, Created: made, Expires: made.AddDate(0, 0, 35), Size: 1_400_000,
	}
	b.Points[vault] = append(b.Points[vault], point)
	return point
}

func (b *Backups) describe(id string) (object, error) {
	job := b.jobs[id]
	if job == nil {
		return nil, &Fault{400, "ResourceNotFoundException", "Job " + id + " was not found"}
	}
	state, message, percent := "RUNNING", "", "40.0"
	switch {
	case b.Fails != "":
		state, message = "FAILED", b.Fails
	case job.polls == 0 && !b.NeverDone:
		state, percent = "COMPLETED", "100.0"
	}
	job.polls = max(job.polls-1, 0)
	if job.kind == "restore" {
		return object{"RestoreJobId": id, "Status": state, "StatusMessage": message, "PercentDone": percent, "CreatedResourceArn": job.made}, nil
	}
	return object{"BackupJobId": id, "State": state, "StatusMessage": message, "PercentDone": percent, "RecoveryPointArn": job.made}, nil
}

func (b *Backups) start(kind, made string) string {
	id := fmt.Sprintf("%s-job-%d", kind, len(b.jobs)+1)
	b.jobs[id] = &job{kind, made, b.Polls}
	return id
}

func init() {
	rest["backup"] = func(method, path string, _ url.Values, input map[string]any) string {
		parts := strings.Split(strings.Trim(path, "/"), "/")
		if len(parts) > 1 {
			input["id"] = parts[1]
		}
		if len(parts) > 3 {
			input["point"] = parts[3]
		}
		switch {
		case parts[0] == "backup-jobs":
			return map[string]string{"PUT": "StartBackupJob", "GET": "DescribeBackupJob"}[method]
		case parts[0] == "restore-jobs":
			return map[string]string{"PUT": "StartRestoreJob", "GET": "DescribeRestoreJob"}[method]
		case strings.HasSuffix(path, "/restore-metadata"):
			return "GetRecoveryPointRestoreMetadata"
		case len(parts) > 3:
			return map[string]string{"DELETE": "DeleteRecoveryPoint"}[method]
		case len(parts) == 3:
			return "ListRecoveryPointsByBackupVault"
		}
		return map[string]string{"DELETE": "DeleteBackupVault", "GET": "DescribeBackupVault"}[method]
	}
}

var _ = register("backup", map[string]Handler{
	"ListRecoveryPointsByBackupVault": func(w *World, c Call) (any, error) {
		all := []object{}
		for _, point := range w.Backups().Points[c.Text("id")] {
			all = append(all, object{
				"RecoveryPointArn": point.ARN, "Status": point.Status, "CreationDate": point.Created, "BackupSizeInBytes": point.Size,
				"ResourceArn":         "arn:aws:elasticfilesystem:" + Region + ":" + Account + ":file-system/" + point.FileSystem,
				"CalculatedLifecycle": object{"DeleteAt": point.Expires},
			})
		}
		return object{"RecoveryPoints": all}, nil
	},
	"DeleteRecoveryPoint": func(w *World, c Call) (any, error) {
		b := w.Backups()
		b.Points[c.Text("id")] = slices.DeleteFunc(b.Points[c.Text("id")], func(p *Point) bool { return p.ARN == c.Text("point") })
		return object{}, nil
	},
	"DeleteBackupVault": func(w *World, c Call) (any, error) {
		if len(w.Backups().Points[c.Text("id")]) > 0 {
			return nil, &Fault{400, "InvalidRequestException", "Backup vault cannot be deleted because it contains recovery points."}
		}
		delete(w.Backups().Points, c.Text("id"))
		return object{}, nil
	},
	"DescribeBackupVault": func(w *World, c Call) (any, error) {
		if _, found := w.Backups().Points[c.Text("id")]; !found {
			return nil, &Fault{400, "ResourceNotFoundException", "Backup vault does not exist."}
		}
		return object{"BackupVaultName": c.Text("id")}, nil
	},
	"StartBackupJob": func(w *World, c Call) (any, error) {
		if c.Text("IamRoleArn") == "" {
			return nil, &Fault{400, "MissingParameterValueException", "IamRoleArn is required"}
		}
		b := w.Backups()
		resource := c.Text("ResourceArn")
		made := ""
		if b.Fails == "" {
			made = w.AddPoint(c.Text("BackupVaultName"), resource[strings.LastIndex(resource, "/")+1:], w.Now()).ARN
		}
		return object{"BackupJobId": b.start("backup", made)}, nil
	},
	"DescribeBackupJob": func(w *World, c Call) (any, error) { return w.Backups().describe(c.Text("id")) },
	"GetRecoveryPointRestoreMetadata": func(_ *World, c Call) (any, error) {
		return object{"RecoveryPointArn": c.Text("point"), "RestoreMetadata": object{"file-system-id": "fs-0123456789abcdef0", "Encrypted": "true", "newFileSystem": "false"}}, nil
	},
	"StartRestoreJob": func(w *World, c Call) (any, error) {
		metadata, _ := c.Input["Metadata"].(map[string]any)
		if metadata["newFileSystem"] != "true" || metadata["CreationToken"] == nil {
			return nil, &Fault{400, "InvalidParameterValueException", "this would restore over the live file system"}
		}
		b := w.Backups()
		made := ""
		if b.Fails == "" {
			made = "arn:aws:elasticfilesystem:" + Region + ":" + Account + ":file-system/" + b.FileSystem
			w.Files()[b.FileSystem] = &FileSystem{Tags: map[string]string{}, Size: 1_400_000}
		}
		return object{"RestoreJobId": b.start("restore", made)}, nil
	},
	"DescribeRestoreJob": func(w *World, c Call) (any, error) { return w.Backups().describe(c.Text("id")) },
})
