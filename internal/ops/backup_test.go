package ops_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"berth/internal/cloud/awstest"
	"berth/internal/ops"
)

func TestBackupAndList(t *testing.T) {
	a := newAccount(t, "dev")
	if err := a.run(t.Context(), &ops.BackupNow{Target: dev}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(a.out.String(), liveVolume+" is backed up: recovery point arn:aws:backup:") || !strings.Contains(a.err.String(), "running, 40.0 %") {
		t.Errorf("it says %s and %s", a.out.String(), a.err.String())
	}
	if err := a.run(t.Context(), &ops.BackupList{Target: dev, JSON: true}); err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Point  string `json:"recovery_point"`
		Status string
		Size   int `json:"size_bytes"`
	}
	if err := json.Unmarshal(a.out.Bytes(), &list); err != nil || len(list) != 2 || list[0].Size != 1_400_000 || list[0].Status != "COMPLETED" || !strings.HasSuffix(list[0].Point, "2") {
		t.Errorf("%v; the list is %+v; the newest comes first", err, list)
	}
	a.Change(func(w *awstest.World) { w.Backups().Fails = "Access denied: role cannot be assumed" })
	wellTold(t, a.run(t.Context(), &ops.BackupNow{Target: dev}), ops.ExitFailed, "role cannot be assumed", "aws backup describe-backup-job")
}

func TestVerifyDrill(t *testing.T) {
	a := newAccount(t, "dev")
	if err := a.run(t.Context(), &ops.BackupVerify{Target: dev}); err != nil {
		t.Fatalf("%v\n%s", err, a.err.String())
	}
	if !strings.Contains(a.out.String(), "3 can be read (1 queued, 2 succeeded); 0 cannot") {
		t.Errorf("it says %s", a.out.String())
	}
	a.Change(func(w *awstest.World) {
		if len(w.Files()) != 1 || len(w.OneOffs().Definitions) != 0 {
			t.Errorf("the drill leaves %v and %v", w.Files(), w.OneOffs().Definitions)
		}
	})
	for _, call := range a.Calls() {
		if call.Action != "RegisterTaskDefinition" {
			continue
		}
		text, _ := json.Marshal(call.Input)
		if strings.Contains(string(text), "ANTHROPIC_API_KEY") || strings.Contains(string(text), liveVolume) || !strings.Contains(string(text), restoredVolume) {
			t.Errorf("the drill's task is %s", text)
		}
	}
	a.Change(func(w *awstest.World) {
		w.OneOffs().Exit, w.OneOffs().Lines = 1, []string{"berthd: 1 sessions cannot be read; the first: 01a20655: the event log is damaged"}
	})
	wellTold(t, a.run(t.Context(), &ops.BackupVerify{Target: dev}), ops.ExitFailed, "did not pass", "the event log is damaged")
}

// A request whose answer is lost may have begun what is paid for.
func TestARestoreThatMayHaveBegun(t *testing.T) {
	for name, v := range map[string]verb{"verify": &ops.BackupVerify{Target: dev}, "restore": &ops.BackupRestore{Target: dev, Yes: true}} {
		a := newAccount(t, "dev")
		a.Fail(awstest.Failure{Call: "backup:StartRestoreJob", Kind: "cut"})
		err := a.run(t.Context(), v)
		wellTold(t, err, ops.ExitFailed, "AWS cannot be reached")
		if text := strings.Join(ops.Lines(err), "\n"); !strings.Contains(text, "`aws backup list-restore-jobs` shows") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestRestoreSwitches(t *testing.T) {
	a := newAccount(t, "dev")
	a.input = "claude-code-prod\n"
	wellTold(t, a.run(t.Context(), &ops.BackupRestore{Target: dev}), ops.ExitUsage, "not the stack's name")
	if got := a.Mutations(); len(got) > 0 {
		t.Errorf("it did %q without being allowed to", got)
	}
	a.input = "claude-code-dev\n"
	if err := a.run(t.Context(), &ops.BackupRestore{Target: dev, Context: []string{"cpu=1024", "memory=4096"}}); err != nil {
		t.Fatalf("%v\n%s", err, a.err.String())
	}
	a.Change(func(w *awstest.World) {
		if got := w.Stacks["claude-code-dev"].Parameters; got["FileSystemId"] != restoredVolume || got["DesiredCount"] != "1" {
			t.Errorf("the stack's parameters are %v", got)
		}
		restored := w.Files()[restoredVolume]
		if restored == nil || len(restored.Targets) != 0 || restored.Policy == "" || restored.Tags["Environment"] != "dev" {
			t.Errorf("the restored file system is %+v; the stack adopts one without mount targets", restored)
		}
	})
	// Nothing is written between the last backup and the switch: the agent is stopped first.
	var order []string
	for _, call := range a.Calls() {
		if slices.Contains([]string{"StartRestoreJob", "RunTask", "UpdateStack", "StartBackupJob"}, call.Action) {
			order = append(order, call.Action)
		}
	}
	if want := []string{"StartRestoreJob", "RunTask", "UpdateStack", "StartBackupJob", "UpdateStack"}; !slices.Equal(order, want) {
		t.Errorf("it did %q, not %q", order, want)
	}
	if !strings.Contains(a.err.String(), "-c cpu=1024") || !strings.Contains(a.err.String(), "-c fileSystemId="+restoredVolume) || !strings.Contains(a.out.String(), "recovery point arn:aws:backup") {
		t.Errorf("it says %s and %s", a.out.String(), a.err.String())
	}
}

func TestRestoreWithoutSwitch(t *testing.T) {
	a := newAccount(t, "dev")
	if err := a.run(t.Context(), &ops.BackupRestore{Target: dev, NoSwitch: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(a.out.String(), "Restored to file system "+restoredVolume) || slices.Contains(a.Mutations(), "cloudformation:UpdateStack") {
		t.Errorf("%s; it did %q", a.out.String(), a.Mutations())
	}
	a.Change(func(w *awstest.World) { w.Backups().Points = map[string][]*awstest.Point{} })
	wellTold(t, a.run(t.Context(), &ops.BackupRestore{Target: dev, NoSwitch: true}), ops.ExitFailed, "has no recovery point", "berth backup now --env dev")
}

func TestDownDeletes(t *testing.T) {
	a := newAccount(t, "dev")
	a.Change(func(w *awstest.World) { w.ActiveSessions(2) })
	wellTold(t, a.run(t.Context(), &ops.Down{Target: dev, Yes: true}), ops.ExitFailed, "2 sessions run", "--force")
	a.Change(func(w *awstest.World) { w.ActiveSessions(-1) })
	wellTold(t, a.run(t.Context(), &ops.Down{Target: dev, Yes: true}), ops.ExitFailed, "has not said", "--force")
	a.input = "no\n"
	wellTold(t, a.run(t.Context(), &ops.Down{Target: dev, Force: true}), ops.ExitUsage, "not the stack's name")
	if got := a.Mutations(); len(got) > 0 {
		t.Errorf("it did %q without being allowed to", got)
	}
	if err := a.run(t.Context(), &ops.Down{Target: dev, Yes: true, Force: true}); err != nil {
		t.Fatalf("%v\n%s", err, a.err.String())
	}
	a.Change(func(w *awstest.World) {
		if w.Stacks["claude-code-dev"] != nil || len(w.Backups().Points["claude-code-dev"]) > 0 {
			t.Error("the stack or a recovery point is still there")
		}
	})
	got := a.Mutations()
	if slices.Index(got, "backup:DeleteRecoveryPoint") > slices.Index(got, "cloudformation:DeleteStack") || slices.Contains(got, "backup:StartBackupJob") {
		t.Errorf("it did %q: outside prod the vault is emptied first, and nothing is backed up", got)
	}
}

func TestDownKeepsInProd(t *testing.T) {
	a := newAccount(t, "prod")
	if err := a.run(t.Context(), &ops.Down{Target: prod, Yes: true}); err != nil {
		t.Fatalf("%v\n%s", err, a.err.String())
	}
	for _, part := range []string{"Left: file system " + liveVolume, "Left: 2 backups", "a month", "berth up --env prod"} {
		if !strings.Contains(a.out.String(), part) {
			t.Errorf("it does not say %q: %s", part, a.out.String())
		}
	}
	got := a.Mutations()
	if want := []string{"ecs:UpdateService", "backup:StartBackupJob", "cloudformation:DeleteStack"}; !slices.Equal(got, want) {
		t.Errorf("it did %q, not %q", got, want)
	}
	if err := a.run(t.Context(), &ops.Down{Target: prod, Yes: true, Purge: true}); err != nil {
		t.Fatalf("%v\n%s", err, a.err.String())
	}
	a.Change(func(w *awstest.World) {
		if len(w.Files())+len(w.Backups().Points["claude-code-prod"])+len(w.Secrets)+len(w.Images)+len(w.LogLines) > 0 {
			t.Errorf("left are %v, %v, %v, %v, %v", w.Files(), w.Backups().Points, w.Secrets, w.Images, w.LogLines)
		}
	})
	if !strings.Contains(a.out.String(), "Nothing is left") {
		t.Errorf("it says %s", a.out.String())
	}
}

func TestDownStopped(t *testing.T) {
	a := newAccount(t, "dev")
	a.Change(func(w *awstest.World) {
		w.Stacks["claude-code-dev"].Events = []awstest.StackEvent{{Resource: "BackupVault", Status: "DELETE_FAILED", Reason: "Backup vault cannot be deleted because it contains recovery points.", Time: w.Now()}}
	})
	a.Fail(awstest.Failure{Call: "cloudformation:DeleteStack", Kind: "denied"})
	wellTold(t, a.run(t.Context(), &ops.Down{Target: dev, Yes: true}), ops.ExitFailed, "BackupVault DELETE_FAILED", "it contains recovery points", "`berth down --env dev` goes on")
	a.Heal()
	// An earlier run was cut off: its deletion is waited for.
	a.Change(func(w *awstest.World) { w.Stacks["claude-code-dev"].Status = "DELETE_IN_PROGRESS" })
	a.On("cloudformation:DescribeStacks", func() {
		a.On("cloudformation:DescribeStacks", func() { a.Change(func(w *awstest.World) { delete(w.Stacks, "claude-code-dev") }) })
	})
	if err := a.run(t.Context(), &ops.Down{Target: dev, Yes: true}); err != nil || !strings.Contains(a.err.String(), "the stack is in DELETE_IN_PROGRESS; waiting for its end") {
		t.Errorf("%v: %s", err, a.err.String())
	}
	for _, status := range []string{"DELETE_FAILED", "ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED"} {
		a := newAccount(t, "dev")
		a.Change(func(w *awstest.World) { w.Stacks["claude-code-dev"].Status = status })
		if err := a.run(t.Context(), &ops.Down{Target: dev, Yes: true}); err != nil {
			t.Errorf("a stack in %s cannot be deleted: %v", status, err)
		}
	}
}

// EFS and ECS take some moments to know what they have just done.
func TestVerifyWaitsForAWSToSettle(t *testing.T) {
	a := newAccount(t, "dev")
	a.Change(func(w *awstest.World) {
		w.OneOffs().Late, w.OneOffs().Unresolved = 2, 2
		w.Lag("DeleteFileSystem", 2)
		w.Lag("DescribeMountTargetSecurityGroups", 1)
	})
	if err := a.run(t.Context(), &ops.BackupVerify{Target: dev}); err != nil {
		t.Fatalf("%v\n%s", err, a.err.String())
	}
	a.Change(func(w *awstest.World) {
		if len(w.Files()) != 1 {
			t.Errorf("the drill leaves %v", w.Files())
		}
	})
}
