package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"berth/internal/contract"
)

// Service is the stack's one ECS service.
type Service struct {
	Status                    string // ACTIVE, DRAINING or INACTIVE; empty: there is none
	Desired, Running, Pending int
	TaskDefinition            string
	Deployments               []Deployment
	Events                    []Event // the newest first
}

// Deployment is a roll-out of a task definition.
type Deployment struct {
	ID, Status, TaskDefinition string
	State, Reason              string // the circuit breaker's: IN_PROGRESS, COMPLETED or FAILED
	Desired, Running, Failed   int
	Created                    time.Time
}

// Event is what ECS says about the service.
type Event struct {
	ID, Message string
	Time        time.Time
}

// Steady reports whether the service has the tasks that it is to have, all of its last deployment.
func (s *Service) Steady() bool {
	return s.Status == "ACTIVE" && len(s.Deployments) == 1 && s.Running == s.Desired && s.Pending == 0 &&
		(s.Deployments[0].State == "" || s.Deployments[0].State == string(types.DeploymentRolloutStateCompleted))
}

// Primary is the deployment that the service is to come to.
func (s *Service) Primary() Deployment {
	for _, each := range s.Deployments {
		if each.Status == "PRIMARY" {
			return each
		}
	}
	return Deployment{}
}

// noService reports whether an error says that there is no cluster, or no service in it: half of a deletion has passed.
func noService(err error) bool {
	var cluster *types.ClusterNotFoundException
	var service *types.ServiceNotFoundException
	return errors.As(err, &cluster) || errors.As(err, &service)
}

// WrongCount is how many tasks the stack says that its service is to run, and whether the service was set to another number.
func (s *Stack) WrongCount(service *Service) (wanted int, differs bool) {
	wanted, err := strconv.Atoi(s.Parameters[contract.ParamDesiredCount])
	return wanted, err == nil && service.Status == "ACTIVE" && service.Desired != wanted
}

// Service describes the service. One that is not there, or its cluster, is one without tasks.
func (c *Client) Service(ctx context.Context, stack *Stack) (*Service, error) {
	cluster, name := stack.clusterAndService()
	answer, err := c.ECS.DescribeServices(ctx, &ecs.DescribeServicesInput{Cluster: &cluster, Services: []string{name}})
	if noService(err) || err == nil && len(answer.Services) == 0 {
		return &Service{}, nil
	}
	if err != nil {
		return nil, Explain(err)
	}
	return toService(&answer.Services[0]), nil
}

func toService(from *types.Service) *Service {
	s := &Service{
		Status: aws.ToString(from.Status), Desired: int(from.DesiredCount), Running: int(from.RunningCount), Pending: int(from.PendingCount),
		TaskDefinition: aws.ToString(from.TaskDefinition),
	}
	for _, each := range from.Deployments {
		s.Deployments = append(s.Deployments, Deployment{
			ID: aws.ToString(each.Id), Status: aws.ToString(each.Status), TaskDefinition: aws.ToString(each.TaskDefinition),
			State: string(each.RolloutState), Reason: aws.ToString(each.RolloutStateReason),
			Desired: int(each.DesiredCount), Running: int(each.RunningCount), Failed: int(each.FailedTasks), Created: aws.ToTime(each.CreatedAt),
		})
	}
	for _, each := range from.Events {
		s.Events = append(s.Events, Event{aws.ToString(each.Id), aws.ToString(each.Message), aws.ToTime(each.CreatedAt)})
	}
	return s
}

// clusterAndService are the outputs' names, or where there are no outputs yet the contract's.
func (s *Stack) clusterAndService() (cluster, service string) {
	return cmp.Or(s.Outputs[contract.OutputClusterName], s.Names.Stack()), cmp.Or(s.Outputs[contract.OutputServiceName], s.Names.Stack())
}

// Task is a task of the service and its one container.
type Task struct {
	ARN, ID, TaskDefinition string
	Status, Desired, Health string
	Made, Started, Stopped  time.Time
	RuntimeID               string // of the container: what the target of a Session Manager session ends with
	Image, Digest           string

	StopCode, StoppedReason string
	ExitCode                *int
	ContainerReason         string
}

// Running reports whether the task runs.
func (t Task) Running() bool { return t.Status == "RUNNING" && t.Desired == "RUNNING" }

// SSMTarget is what Session Manager calls the container.
func (t Task) SSMTarget(cluster string) string {
	return fmt.Sprintf("ecs:%s_%s_%s", cluster, t.ID, t.RuntimeID)
}

// Why says why a task has stopped: its reason, its container's, and the exit code.
func (t Task) Why() string {
	var parts []string
	if t.StoppedReason != "" {
		parts = append(parts, t.StoppedReason)
	}
	if t.ContainerReason != "" && !strings.Contains(t.StoppedReason, t.ContainerReason) {
		parts = append(parts, t.ContainerReason)
	}
	if t.ExitCode != nil {
		parts = append(parts, fmt.Sprintf("the container exited with %d", *t.ExitCode))
	}
	if len(parts) == 0 {
		return "it stopped, and ECS gives no reason"
	}
	return strings.Join(strings.Fields(strings.Join(parts, ": ")), " ")
}

// Tasks lists the service's tasks: those that run or are to run, then those that have stopped in the last hour, each the newest first.
func (c *Client) Tasks(ctx context.Context, stack *Stack) ([]Task, error) {
	cluster, service := stack.clusterAndService()
	var arns []string
	for _, desired := range []types.DesiredStatus{types.DesiredStatusRunning, types.DesiredStatusStopped} {
		pages := ecs.NewListTasksPaginator(c.ECS, &ecs.ListTasksInput{Cluster: &cluster, ServiceName: &service, DesiredStatus: desired})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if noService(err) {
				return nil, nil
			}
			if err != nil {
				return nil, Explain(err)
			}
			arns = append(arns, page.TaskArns...)
		}
	}
	var tasks []Task
	for chunk := range slices.Chunk(arns, 100) { // as many as one call takes
		answer, err := c.ECS.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &cluster, Tasks: chunk})
		if err != nil {
			return nil, Explain(err)
		}
		for i := range answer.Tasks {
			tasks = append(tasks, toTask(&answer.Tasks[i]))
		}
	}
	slices.SortStableFunc(tasks, func(a, b Task) int {
		if a.Desired != b.Desired {
			return cmp.Compare(a.Desired, b.Desired) // RUNNING before STOPPED
		}
		return cmp.Or(b.Stopped.Compare(a.Stopped), b.Started.Compare(a.Started))
	})
	return tasks, nil
}

func toTask(from *types.Task) Task {
	t := Task{
		ARN: aws.ToString(from.TaskArn), TaskDefinition: aws.ToString(from.TaskDefinitionArn), Status: aws.ToString(from.LastStatus), Desired: aws.ToString(from.DesiredStatus),
		Health: string(from.HealthStatus), Made: aws.ToTime(from.CreatedAt), Started: aws.ToTime(from.StartedAt), Stopped: aws.ToTime(from.StoppedAt),
		StopCode: string(from.StopCode), StoppedReason: aws.ToString(from.StoppedReason),
	}
	t.ID = t.ARN[strings.LastIndex(t.ARN, "/")+1:]
	for _, container := range from.Containers {
		if aws.ToString(container.Name) != contract.ContainerName {
			continue
		}
		t.RuntimeID, t.Image, t.Digest = aws.ToString(container.RuntimeId), aws.ToString(container.Image), aws.ToString(container.ImageDigest)
		t.ContainerReason = aws.ToString(container.Reason)
		if container.ExitCode != nil {
			code := int(*container.ExitCode)
			t.ExitCode = &code
		}
	}
	return t
}

// RunningTask is the task that runs now; ok is false if none does.
func (c *Client) RunningTask(ctx context.Context, stack *Stack) (task Task, ok bool, err error) {
	tasks, err := c.Tasks(ctx, stack)
	if err != nil {
		return Task{}, false, err
	}
	for _, each := range tasks {
		if each.Running() {
			return each, true, nil
		}
	}
	return Task{}, false, nil
}
