package awstest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// OneOffs are tasks that belong to no service, and what becomes of them.
type OneOffs struct {
	Exit        int
	Lines       []string // what a task writes
	Hang        bool     // a task runs on
	Unresolved  int      // so many tasks do not start, as the name of a new file system is not known yet
	Late        int      // answers to DescribeTasks in which a task is not known yet
	Definitions map[string]map[string]any
}

// OneOffs is that part of the world.
func (w *World) OneOffs() *OneOffs {
	found, is := w.Extra["one-offs"].(*OneOffs)
	if !is {
		found = &OneOffs{Definitions: map[string]map[string]any{}}
		w.Extra["one-offs"] = found
	}
	return found
}

// ActiveSessions has the agent's metric say how many sessions run; below 0 it says nothing.
func (w *World) ActiveSessions(n int) { w.Extra["sessions"] = n }

func init() {
	maps.Copy(handlers["ecs"], map[string]Handler{
		"UpdateService":          scaling(handlers["ecs"]["UpdateService"]),
		"DescribeTaskDefinition": describeTaskDefinition,
		"RegisterTaskDefinition": func(w *World, c Call) (any, error) {
			arn := fmt.Sprintf("arn:aws:ecs:%s:%s:task-definition/%s:%d", Region, Account, c.Text("family"), len(w.OneOffs().Definitions)+1)
			w.OneOffs().Definitions[arn] = c.Input
			return object{"taskDefinition": object{"taskDefinitionArn": arn}}, nil
		},
		"DeregisterTaskDefinition": func(*World, Call) (any, error) { return object{}, nil },
		"DeleteTaskDefinitions": func(w *World, c Call) (any, error) {
			for _, arn := range c.List("taskDefinitions") {
				delete(w.OneOffs().Definitions, arn)
			}
			return object{}, nil
		},
		"RunTask":  runTask,
		"StopTask": stopTask,
	})
	maps.Copy(handlers["monitoring"], map[string]Handler{
		"GetMetricStatistics": activeSessions,
	})
	maps.Copy(handlers["ecr"], map[string]Handler{
		"DeleteRepository": func(w *World, c Call) (any, error) {
			delete(w.Images, c.Text("repositoryName"))
			return object{}, nil
		},
	})
	maps.Copy(handlers["logs"], map[string]Handler{
		"DescribeLogGroups": describeLogGroups,
		"DeleteLogGroup": func(w *World, c Call) (any, error) {
			delete(w.LogLines, c.Text("logGroupName"))
			return object{}, nil
		},
	})
	maps.Copy(handlers["secretsmanager"], map[string]Handler{
		"DeleteSecret": deleteSecret,
	})
}

// scaling sets the number of tasks where a call of UpdateService names one, and then does what update does.
func scaling(update Handler) Handler {
	return func(w *World, c Call) (any, error) {
		if desired, is := c.Input["desiredCount"].(float64); is {
			service, err := w.service(c.Text("service"))
			if err != nil {
				return nil, err
			}
			if service.Desired = int(desired); desired == 0 {
				for _, task := range service.Tasks {
					task.Status = "STOPPED"
				}
			} else {
				w.roll(service.Name, w.Stacks[service.Name].Parameters["ImageRef"], service.Desired)
			}
		}
		return update(w, c)
	}
}

// describeTaskDefinition answers for a revision that the service has run with its image; of the others nothing is asked but what a copy takes.
func describeTaskDefinition(w *World, c Call) (any, error) {
	family, number, _ := strings.Cut(c.Text("taskDefinition")[strings.LastIndex(c.Text("taskDefinition"), "/")+1:], ":")
	image, revision := "image", 0
	_, _ = fmt.Sscan(number, &revision)
	if service := w.Services[family]; service != nil && 0 < revision && revision <= len(service.Ran) {
		image = service.Repository + service.Ran[revision-1]
	}
	made := time.Unix(1_700_000_000, 0).Add(time.Duration(revision) * time.Minute)
	gone := made.Add(time.Second)
	if service := w.Services[family]; service != nil && !slices.Contains(service.TakenBack, revision) {
		gone = gone.Add(time.Minute) // when the next one runs
		for next := revision + 1; slices.Contains(service.TakenBack, next); next++ {
			gone = gone.Add(time.Minute)
		}
	}
	return object{"taskDefinition": object{
		"registeredAt": made, "deregisteredAt": gone,
		"taskDefinitionArn": c.Text("taskDefinition"), "family": "claude-code-dev", "cpu": "2048", "memory": "8192", "networkMode": "awsvpc",
		"requiresCompatibilities": []any{"FARGATE"}, "executionRoleArn": "arn:aws:iam::" + Account + ":role/execution", "taskRoleArn": "arn:aws:iam::" + Account + ":role/task",
		"containerDefinitions": []object{{"name": "agent", "image": image, "secrets": []object{{"name": "ANTHROPIC_API_KEY", "valueFrom": "arn"}}, "readonlyRootFilesystem": true}},
		"volumes":              []object{{"name": "volume", "efsVolumeConfiguration": object{"fileSystemId": "fs-0123456789abcdef0", "transitEncryption": "ENABLED"}}, {"name": "work"}},
	}}, nil
}

// runTask runs a one-off task, which ends at once unless it is to hang.
func runTask(w *World, c Call) (any, error) {
	service, err := w.service(c.Text("cluster"))
	if err != nil {
		return nil, err
	}
	o := w.OneOffs()
	task := &Task{ID: fmt.Sprintf("d%031d", len(service.Tasks)+1), Status: "RUNNING", Started: w.Now()}
	if !o.Hang {
		task.Status, task.StopCode, task.StoppedReason, task.ExitCode, task.Stopped = "STOPPED", "EssentialContainerExited", "Essential container in task exited", &o.Exit, w.Now()
	}
	service.Tasks = append(service.Tasks, task)
	if o.Unresolved > 0 {
		o.Unresolved--
		task.Status, task.StopCode, task.ExitCode = "STOPPED", "TaskFailedToStart", nil
		task.StoppedReason = `ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: Failed to resolve "fs-0aaaaaaaaaaaaaaa1.efs.us-east-1.amazonaws.com"`
		return object{"tasks": []object{task.describe(service.Name)}, "failures": []object{}}, nil
	}
	group := w.Stacks[service.Name].Outputs["LogGroupName"]
	for _, line := range o.Lines {
		w.LogLines[group] = append(w.LogLines[group], LogLine{Stream: "agent/agent/" + task.ID, Text: line, Time: w.Now()})
	}
	return object{"tasks": []object{task.describe(service.Name)}, "failures": []object{}}, nil
}

// stopTask stops a task.
func stopTask(w *World, c Call) (any, error) {
	service, err := w.service(c.Text("cluster"))
	if err != nil {
		return nil, err
	}
	for _, task := range service.Tasks {
		if strings.HasSuffix(c.Text("task"), task.ID) {
			task.Status = "STOPPED"
		}
	}
	return object{}, nil
}

// activeSessions answers with what ActiveSessions has set.
func activeSessions(w *World, _ Call) (any, error) {
	points := []object{}
	if n, said := w.Extra["sessions"].(int); said && n >= 0 {
		points = append(points, object{"Timestamp": w.Now().Add(-time.Minute), "Maximum": float64(n), "Unit": "Count"})
	}
	return object{"Label": "ActiveSessions", "Datapoints": points}, nil
}

// describeLogGroups lists the groups that have lines.
func describeLogGroups(w *World, c Call) (any, error) {
	all := []object{}
	for _, name := range slices.Sorted(maps.Keys(w.LogLines)) {
		if strings.HasPrefix(name, c.Text("logGroupNamePrefix")) {
			all = append(all, object{"logGroupName": name, "storedBytes": 2048})
		}
	}
	return object{"logGroups": all}, nil
}

// deleteSecret forgets a secret.
func deleteSecret(w *World, c Call) (any, error) {
	name, _, err := w.secret(c.Text("SecretId"))
	if err != nil {
		return nil, err
	}
	delete(w.Secrets, name)
	return object{}, nil
}
