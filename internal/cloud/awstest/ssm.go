package awstest

import (
	"context"
	"fmt"
	"net"
	"strings"

	"berth/internal/tunnel/ssmtest"
)

// The two calls that start a session of Session Manager are answered with sessions of ssmtest's stand-in.

// Sessions has tasks reached through a stand-in of Session Manager's data channel. dial makes the connections to the
// agent's port in the container; it may be changed by calling it again.
func (w *World) Sessions(server *ssmtest.Server, dial func(context.Context) (net.Conn, error)) {
	w.Change(func(w *World) { w.Extra["ssm"] = &sessions{server, dial} })
}

type sessions struct {
	server *ssmtest.Server
	dial   func(context.Context) (net.Conn, error)
}

// sessionsOf is what starts sessions with a task, if the task runs.
func (w *World) sessionsOf(cluster string, fits func(*Task) bool, code string) (*sessions, error) {
	started, _ := w.Extra["ssm"].(*sessions)
	if started == nil {
		return nil, fmt.Errorf("awstest: Sessions was not called")
	}
	if service := w.Services[cluster]; service != nil {
		for _, task := range service.Tasks {
			if task.Status == "RUNNING" && fits(task) {
				return started, nil
			}
		}
	}
	return nil, &Fault{400, code, "The task is not connected."}
}

var _ = register("ssm", map[string]Handler{
	"StartSession": func(w *World, c Call) (any, error) {
		parts := strings.Split(strings.TrimPrefix(c.Text("Target"), "ecs:"), "_")
		parameters, _ := c.Input["Parameters"].(map[string]any)
		if len(parts) != 3 || c.Text("DocumentName") != "AWS-StartPortForwardingSession" || fmt.Sprint(parameters["portNumber"]) != "[8787]" {
			return nil, &Fault{400, "ValidationException", fmt.Sprintf("awstest: %v", c.Input)}
		}
		from, err := w.sessionsOf(parts[0], func(t *Task) bool { return t.ID == parts[1] && t.ID+"-1" == parts[2] }, "TargetNotConnected")
		if err != nil {
			return nil, err
		}
		s := from.server.Forward(from.dial)
		return object{"SessionId": s.ID, "StreamUrl": s.URL, "TokenValue": s.Token}, nil
	},
})

var _ = register("ecs", map[string]Handler{
	"ExecuteCommand": func(w *World, c Call) (any, error) {
		if interactive, _ := c.Input["interactive"].(bool); !interactive || c.Text("container") != "agent" {
			return nil, &Fault{400, "InvalidParameterException", "Interactive is the only mode supported currently."}
		}
		from, err := w.sessionsOf(c.Text("cluster"), func(t *Task) bool { return strings.HasSuffix(c.Text("task"), "/"+t.ID) }, "TargetNotConnectedException")
		if err != nil {
			return nil, err
		}
		s := from.server.Command(c.Text("command"))
		return object{"interactive": true, "containerName": "agent", "session": object{"sessionId": s.ID, "streamUrl": s.URL, "tokenValue": s.Token}}, nil
	},
})
