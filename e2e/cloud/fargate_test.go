//go:build e2e

package cloud

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"berth/internal/dockertest"
	"berth/internal/tunnel/ssmtest"
)

// fargate stands in for what the emulator has not: something that runs tasks. For each task that the emulator has as running it pulls the
// image from the emulator's registry and runs the container as the task's definition says; a task that the emulator stopped takes its
// container with it, and of a container that ended the emulator is told, whose service then has another task.
//
// It differs from Fargate in this: containers are on the machine's own network, tasks count as running before their containers run, the
// file system is a directory, and the roles' permissions are not looked at.
type fargate struct {
	t        *testing.T
	docker   *dockertest.Daemon
	url      string // of the emulator
	cluster  string
	volumes  string            // a directory for each file system, which outlives its tasks
	platform map[string]string // what the platform adds to the environment

	ecs     *ecs.Client
	secrets *secretsmanager.Client
	logs    *cloudwatchlogs.Client

	ssm *ssmtest.Server // reaches into the container

	mu         sync.Mutex
	containers map[string]string // by task, while it runs
	over       map[string]bool   // the tasks whose containers have ended
	wait       sync.WaitGroup
}

// run runs tasks until the context ends, and then ends their containers.
func (f *fargate) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := f.look(ctx); err != nil && ctx.Err() == nil {
			f.t.Logf("fargate: %v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(150 * time.Millisecond):
		}
	}
	f.mu.Lock()
	for _, id := range f.containers {
		_, _ = f.docker.Docker(context.WithoutCancel(ctx), "rm", "--force", "--volumes", id)
	}
	f.mu.Unlock()
	f.wait.Wait()
}

// look compares the emulator's tasks with the containers.
func (f *fargate) look(ctx context.Context) error {
	list, err := f.ecs.ListTasks(ctx, &ecs.ListTasksInput{Cluster: &f.cluster, DesiredStatus: ecstypes.DesiredStatusRunning})
	var none *ecstypes.ClusterNotFoundException
	if errors.As(err, &none) {
		list, err = &ecs.ListTasksOutput{}, nil // nothing is deployed
	}
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	f.mu.Lock()
	for _, arn := range list.TaskArns {
		if !f.over[arn] { // the emulator may not have been told yet
			wanted[arn] = true
		}
	}
	stopped := map[string]string{}
	for arn, id := range f.containers {
		if !wanted[arn] {
			stopped[arn] = id
		}
		delete(wanted, arn)
	}
	f.mu.Unlock()
	for arn, id := range stopped { // SIGTERM, and the definition's stop timeout; one task at a time is on the volume
		if _, err := f.docker.Docker(ctx, "stop", id); err != nil {
			return err
		}
		state, err := f.docker.Inspect(ctx, id)
		if err != nil {
			return err
		}
		if state.ExitCode != 0 || state.OOMKilled {
			f.t.Errorf("fargate: after SIGTERM the container is %+v", state)
		}
		f.forget(arn, id)
	}
	for arn := range wanted {
		if f.container() != "" {
			break // the deployment's configuration lets the old task end before the new one begins
		}
		if err := f.start(ctx, arn); err != nil {
			f.t.Logf("fargate: task %s does not start: %v", arn, err)
			if err := f.tell(ctx, "task-ended", map[string]any{"task": arn, "reason": "CannotStart: " + err.Error()}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *fargate) forget(arn, id string) {
	f.ssm.Stall() // what Session Manager had in it does not answer any more
	f.mu.Lock()
	delete(f.containers, arn)
	f.over[arn] = true
	f.mu.Unlock()
	_, _ = f.docker.Docker(context.Background(), "rm", "--force", "--volumes", id)
}

// start starts a task's container.
func (f *fargate) start(ctx context.Context, arn string) error {
	tasks, err := f.ecs.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &f.cluster, Tasks: []string{arn}})
	if err != nil {
		return err
	}
	if len(tasks.Tasks) != 1 {
		return fmt.Errorf("there are %d tasks of this name", len(tasks.Tasks))
	}
	definition, err := f.definition(ctx, aws.ToString(tasks.Tasks[0].TaskDefinitionArn))
	if err != nil {
		return err
	}
	values, err := f.values(ctx, definition)
	if err != nil {
		return err
	}
	reference, _ := definition.ContainerDefinitions[0].Image.(string)
	_, path, _ := strings.Cut(reference, "/")
	local := strings.TrimPrefix(f.url, "http://") + "/" + path // the emulator's registry is where ECR's would be
	if _, err := f.docker.Docker(ctx, "pull", "--quiet", local); err != nil {
		return err
	}
	_, digest, _ := strings.Cut(reference, "@")
	volume, err := f.volume(definition)
	if err != nil {
		return err
	}
	id, err := f.docker.Start(ctx, dockertest.Task{
		Definition: definition, Image: local, Name: arn[strings.LastIndex(arn, "/")+1:], Volume: volume, Secrets: values, Overrides: f.platform,
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.containers[arn] = id
	f.mu.Unlock()
	f.wait.Go(func() { f.follow(ctx, definition.ContainerDefinitions[0], arn, id) })
	f.wait.Go(func() { f.await(ctx, arn, id) })
	return f.tell(ctx, "task-started", map[string]any{"task": arn, "digest": digest})
}

// volume is the directory of the file system that a definition names.
func (f *fargate) volume(definition dockertest.TaskDefinition) (string, error) {
	for _, each := range definition.Volumes {
		var system struct{ FileSystemID string }
		if err := json.Unmarshal(each.EFS, &system); err == nil && system.FileSystemID != "" {
			path := filepath.Join(f.volumes, system.FileSystemID)
			return path, os.MkdirAll(path, 0o755)
		}
	}
	return "", errors.New("the definition names no file system")
}

// definition is a task's, as the emulator has it: what CloudFormation made of the synthesised template.
func (f *fargate) definition(ctx context.Context, arn string) (dockertest.TaskDefinition, error) {
	body, _ := json.Marshal(map[string]string{"taskDefinition": arn})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+"/", bytes.NewReader(body))
	if err != nil {
		return dockertest.TaskDefinition{}, err
	}
	request.Header.Set("X-Amz-Target", "AmazonEC2ContainerServiceV20141113.DescribeTaskDefinition")
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/ecs/aws4_request")
	text, err := send(request)
	if err != nil {
		return dockertest.TaskDefinition{}, err
	}
	var answer struct{ TaskDefinition json.RawMessage }
	if err := json.Unmarshal(text, &answer); err != nil {
		return dockertest.TaskDefinition{}, err
	}
	return dockertest.Read(answer.TaskDefinition)
}

// values gets the secrets that a definition names: a secret's ARN, or that with the key of a JSON object after it.
func (f *fargate) values(ctx context.Context, definition dockertest.TaskDefinition) (map[string]string, error) {
	values := map[string]string{}
	for _, each := range definition.ContainerDefinitions[0].Secrets {
		from, _ := each.ValueFrom.(string)
		parts := strings.Split(from, ":")
		if len(parts) < 7 {
			return nil, fmt.Errorf("the secret %s is from %q", each.Name, from)
		}
		arn := strings.Join(parts[:7], ":")
		answer, err := f.secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &arn})
		if err != nil {
			return nil, err
		}
		values[each.Name] = aws.ToString(answer.SecretString)
		if len(parts) > 7 && parts[7] != "" {
			var object map[string]string
			if err := json.Unmarshal([]byte(values[each.Name]), &object); err != nil {
				return nil, fmt.Errorf("the secret %s is no JSON object", arn) // nothing of it is shown
			}
			value, there := object[parts[7]]
			if !there {
				return nil, fmt.Errorf("ResourceInitializationError: the secret %s has no key %s", arn, parts[7])
			}
			values[each.Name] = value
		}
	}
	return values, nil
}

// await waits for a container's end, and tells the emulator of it if nobody had asked for it.
func (f *fargate) await(ctx context.Context, arn, id string) {
	code, err := f.docker.Docker(ctx, "wait", id)
	f.mu.Lock()
	mine := f.containers[arn] == id
	f.mu.Unlock()
	if err != nil || !mine || ctx.Err() != nil {
		return
	}
	tasks, err := f.ecs.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &f.cluster, Tasks: []string{arn}})
	if err == nil && len(tasks.Tasks) == 1 && aws.ToString(tasks.Tasks[0].DesiredStatus) == "STOPPED" {
		return // look has stopped it
	}
	f.forget(arn, id)
	if err := f.tell(ctx, "task-ended", map[string]any{"task": arn, "code": json.Number(code), "reason": "Essential container in task exited"}); err != nil {
		f.t.Logf("fargate: %v", err)
	}
}

// follow puts the container's lines into the log group that its definition names.
func (f *fargate) follow(ctx context.Context, container dockertest.Definition, arn, id string) {
	group, _ := container.LogConfiguration.Options["awslogs-group"].(string)
	prefix, _ := container.LogConfiguration.Options["awslogs-stream-prefix"].(string)
	stream := prefix + "/" + container.Name + "/" + arn[strings.LastIndex(arn, "/")+1:]
	if _, err := f.logs.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &group, LogStreamName: &stream}); err != nil {
		f.t.Logf("fargate: %v", err)
		return
	}
	program := f.docker.Command(ctx, "logs", "--follow", id)
	read, write := io.Pipe()
	program.Stdout, program.Stderr = write, write
	if err := program.Start(); err != nil {
		f.t.Logf("fargate: %v", err)
		return
	}
	go func() { _ = write.CloseWithError(program.Wait()) }()
	for lines := bufio.NewScanner(read); lines.Scan(); {
		searchFor(f.t, "a line of the log", strings.NewReader(lines.Text()))
		_, err := f.logs.PutLogEvents(ctx, &cloudwatchlogs.PutLogEventsInput{LogGroupName: &group, LogStreamName: &stream, LogEvents: []logtypes.InputLogEvent{
			{Message: aws.String(lines.Text()), Timestamp: aws.Int64(time.Now().UnixMilli())},
		}})
		if err != nil && ctx.Err() == nil {
			f.t.Logf("fargate: %v", err)
		}
	}
	_, _ = io.Copy(io.Discard, read)
}

// container is the container of the one task that runs; "" if none does.
func (f *fargate) container() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range f.containers {
		return id
	}
	return ""
}

// task is the ARN of the one task whose container runs; "" if none does.
func (f *fargate) task() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for arn := range f.containers {
		return arn
	}
	return ""
}

// tell tells the emulator what became of a task.
func (f *fargate) tell(ctx context.Context, what string, of map[string]any) error {
	body, err := json.Marshal(of)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+"/_berth/"+what, bytes.NewReader(body))
	if err != nil {
		return err
	}
	_, err = send(request)
	return err
}

func send(request *http.Request) ([]byte, error) {
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %s", request.Method, request.URL, answer.Status, text)
	}
	return text, nil
}
