//go:build e2e

package cloud

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"berth/internal/contract"
	"berth/internal/tunnel/ssmtest"
)

// The two calls that start a session of Session Manager are answered as AWS does, with sessions of ssmtest's stand-in: they lead to the
// container of the task that is named, if it runs.

// startSession answers StartSession.
func (f *fargate) startSession(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Target, DocumentName string
		Parameters           map[string][]string
	}
	_, port, _ := strings.Cut(contract.Listen, ":")
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.DocumentName != "AWS-StartPortForwardingSession" || !slices.Equal(asked.Parameters["portNumber"], []string{port}) {
		refuse(w, "ValidationException", fmt.Sprintf("%v: %+v", err, asked))
		return
	}
	arn, runtime := f.task(), ""
	if tasks, err := f.ecs.DescribeTasks(r.Context(), &ecs.DescribeTasksInput{Cluster: &f.cluster, Tasks: []string{arn}}); arn != "" && err == nil && len(tasks.Tasks) == 1 {
		runtime = aws.ToString(tasks.Tasks[0].Containers[0].RuntimeId)
	}
	if want := "ecs:" + f.cluster + "_" + arn[strings.LastIndex(arn, "/")+1:] + "_" + runtime; runtime == "" || asked.Target != want {
		refuse(w, "TargetNotConnected", asked.Target+" is not connected.")
		return
	}
	s := f.ssm.Forward(ssmtest.To(contract.Listen)) // the container's port is this machine's
	answer(w, map[string]string{"SessionId": s.ID, "StreamUrl": s.URL, "TokenValue": s.Token})
}

// executeCommand answers ExecuteCommand.
func (f *fargate) executeCommand(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Cluster, Task, Container, Command string
		Interactive                       bool
	}
	arn := f.task()
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || !asked.Interactive || asked.Container != contract.ContainerName || asked.Task != arn || arn == "" {
		refuse(w, "TargetNotConnectedException", fmt.Sprintf("%v: %+v", err, asked))
		return
	}
	s := f.ssm.Command(asked.Command)
	answer(w, map[string]any{"interactive": true, "containerName": asked.Container, "session": map[string]string{"sessionId": s.ID, "streamUrl": s.URL, "tokenValue": s.Token}})
}

// inContainer is a command that Session Manager's agent runs in the container: with a terminal, as the container's user.
func (f *fargate) inContainer(command string) *exec.Cmd {
	program := exec.Command("/usr/bin/docker", "exec", "--interactive", "--tty", f.container(), "sh", "-c", command)
	program.Env = []string{"DOCKER_HOST=" + f.docker.Host}
	return program
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(value) // who asks finds out
}

func refuse(w http.ResponseWriter, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message}) // who asks finds out
}
