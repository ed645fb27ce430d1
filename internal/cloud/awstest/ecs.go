package awstest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Service is an ECS service of one task.
type Service struct {
	Name, Repository string
	Desired          int
	Revision         int      // of the task definition
	State, Reason    string   // of the primary deployment; COMPLETED if empty
	Polls            int      // answers in which the deployment is still IN_PROGRESS
	Ran              []string // what ImageRef was in each revision, from the first
	TakenBack        []int    // revisions that came to nothing
	Events           []string
	Tasks            []*Task

	stale  int // answers to DescribeServices that are still before
	before object
}

// Task is a task of a service.
type Task struct {
	ID, Status, Health, Image, Digest        string
	StopCode, StoppedReason, ContainerReason string
	ExitCode                                 *int
	Started, Stopped                         time.Time
}

// Rollout is what becomes of the tasks that a service starts: they run, unless something is wrong.
type Rollout struct {
	Exit       *int   // each exits with this at once
	CannotPull string // each stops for this reason
	Broken     bool   // the circuit breaker has rolled the deployment back: the stack's update fails
	Polls      int    // answers to DescribeServices until it is done; negative: never
	Stale      int    // answers to DescribeServices that do not show a change by UpdateService yet
}

// roll starts a deployment. It returns why the update of the stack fails, if it does.
func (w *World) roll(name, imageRef string, desired int) (problem string) {
	service := w.Services[name]
	service.Revision++
	service.Ran = append(service.Ran, imageRef)
	service.Desired, service.Polls, service.State = desired, w.Rollout.Polls, ""
	now := w.Now()
	for _, task := range service.Tasks {
		if task.Status == "RUNNING" {
			task.Status, task.StopCode, task.StoppedReason, task.Stopped = "STOPPED", "ServiceSchedulerInitiated", "Scaling activity initiated by deployment", now
		}
	}
	if desired == 0 {
		return ""
	}
	repository := service.Repository[strings.LastIndex(service.Repository, "/")+1:]
	digest := strings.TrimPrefix(imageRef, "@")
	for _, image := range w.Images[repository] {
		if slices.Contains(image.Tags, strings.TrimPrefix(imageRef, ":")) {
			digest = image.Digest
		}
	}
	task := &Task{
		ID: fmt.Sprintf("%032x", len(service.Tasks)+1), Status: "RUNNING", Health: "HEALTHY", Image: service.Repository + imageRef, Digest: digest, Started: now,
	}
	service.Tasks = append(service.Tasks, task)
	switch {
	case w.Rollout.Exit != nil:
		task.Status, task.StopCode, task.StoppedReason, task.ExitCode, task.Stopped = "STOPPED", "EssentialContainerExited", "Essential container in task exited", w.Rollout.Exit, now
	case w.Rollout.CannotPull != "":
		task.Status, task.StopCode, task.StoppedReason, task.Stopped = "STOPPED", "TaskFailedToStart", w.Rollout.CannotPull, now
	}
	if w.Rollout.Broken {
		service.State, service.Reason = "FAILED", "ECS deployment circuit breaker: tasks failed to start."
		return "Resource handler returned message: \"Error occurred during operation 'ECS Deployment Circuit Breaker was triggered'.\""
	}
	if task.Status == "STOPPED" {
		service.Polls = -1
	}
	return ""
}

func (s *Service) describe(now time.Time) object {
	running := 0
	for _, task := range s.Tasks {
		if task.Status == "RUNNING" && s.Polls == 0 {
			running++
		}
	}
	state, reason := s.State, s.Reason
	switch {
	case state != "":
	case s.Polls != 0:
		state, reason = "IN_PROGRESS", "ECS deployment ecs-svc/1 in progress."
	default:
		state, reason = "COMPLETED", "ECS deployment ecs-svc/1 completed."
	}
	if s.Polls > 0 {
		s.Polls--
	}
	events := []object{}
	for i, event := range slices.Backward(s.Events) {
		events = append(events, object{"id": fmt.Sprint(i), "message": event, "createdAt": now})
	}
	definition := fmt.Sprintf("arn:aws:ecs:%s:%s:task-definition/%s:%d", Region, Account, s.Name, max(s.Revision, 1))
	return object{
		"serviceName": s.Name, "serviceArn": "arn:aws:ecs:" + Region + ":" + Account + ":service/" + s.Name + "/" + s.Name, "status": "ACTIVE",
		"desiredCount": s.Desired, "runningCount": running, "pendingCount": 0, "taskDefinition": definition, "events": events,
		"deployments": []object{{
			"id": fmt.Sprintf("ecs-svc/%d", s.Revision), "status": "PRIMARY", "taskDefinition": definition, "desiredCount": s.Desired, "runningCount": running,
			"failedTasks": 0, "rolloutState": state, "rolloutStateReason": reason, "createdAt": now,
		}},
	}
}

func (t *Task) describe(service string) object {
	desired := t.Status
	container := object{"name": "agent", "image": t.Image, "imageDigest": t.Digest, "lastStatus": t.Status, "runtimeId": t.ID + "-1"}
	if t.ExitCode != nil {
		container["exitCode"] = *t.ExitCode
	}
	if t.ContainerReason != "" {
		container["reason"] = t.ContainerReason
	}
	described := object{
		"taskArn": "arn:aws:ecs:" + Region + ":" + Account + ":task/" + service + "/" + t.ID, "lastStatus": t.Status, "desiredStatus": desired, "healthStatus": t.Health,
		"createdAt": t.Started, "startedAt": t.Started, "containers": []object{container}, "taskDefinitionArn": "arn:aws:ecs:" + Region + ":" + Account + ":task-definition/" + service + ":1",
	}
	if t.Status == "STOPPED" {
		described["stoppedAt"], described["stopCode"], described["stoppedReason"] = t.Stopped, t.StopCode, t.StoppedReason
	}
	return described
}

func (w *World) service(name string) (*Service, error) {
	if service := w.Services[name[strings.LastIndex(name, "/")+1:]]; service != nil {
		return service, nil
	}
	return nil, &Fault{400, "ClusterNotFoundException", "Cluster not found."}
}

var _ = register("ecs", map[string]Handler{
	"DescribeServices": func(w *World, c Call) (any, error) {
		if _, err := w.service(c.Text("cluster")); err != nil {
			return nil, err
		}
		all := []object{}
		for _, name := range c.List("services") {
			if service, err := w.service(name); err == nil && service.stale > 0 {
				service.stale--
				all = append(all, service.before)
			} else if err == nil {
				all = append(all, service.describe(w.Now()))
			}
		}
		return object{"services": all, "failures": []object{}}, nil
	},
	"ListTasks": func(w *World, c Call) (any, error) {
		service, err := w.service(c.Text("cluster"))
		if err != nil {
			return nil, err
		}
		arns := []any{}
		for _, task := range service.Tasks {
			if (task.Status == "STOPPED") == (c.Text("desiredStatus") == "STOPPED") {
				arns = append(arns, task.describe(service.Name)["taskArn"])
			}
		}
		return object{"taskArns": arns}, nil
	},
	"DescribeTasks": func(w *World, c Call) (any, error) {
		service, err := w.service(c.Text("cluster"))
		if err != nil {
			return nil, err
		}
		all := []object{}
		if o := w.OneOffs(); o.Late > 0 && strings.Contains(fmt.Sprint(c.List("tasks")), "/d0") {
			o.Late--
			return object{"tasks": all, "failures": []object{{"reason": "MISSING"}}}, nil
		}
		for _, task := range service.Tasks {
			described := task.describe(service.Name)
			if slices.ContainsFunc(c.List("tasks"), func(name string) bool { return strings.HasSuffix(described["taskArn"].(string), name) }) {
				all = append(all, described)
			}
		}
		return object{"tasks": all, "failures": []object{}}, nil
	},
	"UpdateService": func(w *World, c Call) (any, error) {
		service, err := w.service(c.Text("service"))
		if err != nil {
			return nil, err
		}
		service.stale, service.before = w.Rollout.Stale, service.describe(w.Now())
		if force, _ := c.Input["forceNewDeployment"].(bool); force && service.Desired > 0 {
			w.roll(service.Name, w.Stacks[service.Name].Parameters["ImageRef"], service.Desired)
		}
		return object{"service": service.describe(w.Now())}, nil
	},
})
