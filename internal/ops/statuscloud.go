package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"berth/internal/api"
	"berth/internal/cloud"
	"berth/internal/contract"
)

// CloudStatus is how a deployment is, as `berth status --env … --json` writes it. What could not be found out is left out, and
// Problems say why.
type CloudStatus struct {
	Stack       string            `json:"stack"`
	Region      string            `json:"region"`
	Status      string            `json:"status"`
	Parameters  map[string]string `json:"parameters"`
	Tags        map[string]string `json:"tags"`
	Paused      bool              `json:"paused"`
	Service     *serviceStatus    `json:"service,omitempty"`
	Tasks       []taskStatus      `json:"tasks"`
	Image       string            `json:"image"`
	InRegistry  *bool             `json:"image_in_registry,omitempty"`
	Images      []cloud.Image     `json:"images"`
	KeySet      *bool             `json:"key_set,omitempty"`
	KeyVersion  string            `json:"key_version,omitempty"` // of the key's secret
	AlarmsTotal int               `json:"alarms"`
	Alarms      []string          `json:"alarms_firing"`
	LastBackup  *time.Time        `json:"last_backup,omitempty"`
	Agent       *api.Status       `json:"agent,omitempty"`
	AgentAway   string            `json:"agent_unreachable,omitempty"` // why what the agent itself knows is not there
	Problems    []string          `json:"problems"`
}

type serviceStatus struct {
	Status  string `json:"status"`
	Desired int    `json:"desired"`
	Running int    `json:"running"`
	Pending int    `json:"pending"`
	Rollout string `json:"rollout"`
	Steady  bool   `json:"steady"`
}

type taskStatus struct {
	ID      string    `json:"id"`
	Status  string    `json:"status"`
	Health  string    `json:"health"`
	Digest  string    `json:"digest"`
	Started time.Time `json:"started_at"`
	Why     string    `json:"stopped_because,omitempty"`
}

// runCloud writes how a deployment is. It fails if something is wrong with it.
func (s *Status) runCloud(ctx context.Context, stdio Stdio) error {
	d, err := s.newDeployment(ctx, stdio)
	if err != nil {
		return err
	}
	if d.stack, err = d.client.Stack(ctx, d.names); err != nil {
		return err
	}
	status := d.status(ctx)
	status.askAgent(ctx, d)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.JSON {
		err = writeJSON(stdio.Out, status)
	} else {
		err = writeCloudStatus(stdio.Out, status, time.Now())
	}
	if err == nil && len(status.Problems) > 0 {
		err = fmt.Errorf("%s", status.Problems[0])
	}
	return err
}

// status asks for everything.
func (d *deployment) status(ctx context.Context) *CloudStatus {
	s := &CloudStatus{
		Stack: d.names.Stack(), Region: d.client.Region, Status: d.stack.Status, Parameters: d.stack.Parameters, Tags: d.stack.Tags,
		Tasks: []taskStatus{}, Images: []cloud.Image{}, Alarms: []string{}, Problems: []string{},
	}
	s.Paused = d.stack.Parameters[contract.ParamDesiredCount] == "0" && d.stack.Parameters[contract.ParamImageRef] != contract.DefaultImageRef
	problem := func(err error) {
		if err != nil {
			s.Problems = append(s.Problems, err.Error())
		}
	}
	problem(d.stack.Problem())
	if d.stack.Outputs[contract.OutputServiceName] == "" {
		return s // its first deployment is not done, or failed
	}
	d.serviceStatus(ctx, s, problem)
	images, err := d.client.Images(ctx, d.stack)
	problem(err)
	if err == nil {
		const most = 5
		s.Images = append(s.Images, images[:min(len(images), most)]...)
		there := false
		for _, each := range images {
			there = there || each.Digest == s.Image
		}
		s.InRegistry = &there
	}
	key, err := d.client.Key(ctx, d.stack)
	problem(err)
	if err == nil {
		s.KeySet, s.KeyVersion = &key.Set, key.Version
		if !key.Set {
			problem(&cloud.Error{What: "no Anthropic key is set", Next: "`berth key set " + d.flags() + "`"})
		}
	}
	firing, total, err := d.client.Alarms(ctx, d.names)
	problem(err)
	s.Alarms, s.AlarmsTotal = append(s.Alarms, firing...), total
	if len(firing) > 0 {
		problem(fmt.Errorf("%s in ALARM: %s; docs/alarms.md says what to do", plural(len(firing), "alarm is", "alarms are"), strings.Join(firing, ", ")))
	}
	points, err := d.client.RecoveryPoints(ctx, d.stack.Vault())
	problem(err)
	for i := range points {
		if made := points[i].Created; points[i].Complete() && (s.LastBackup == nil || made.After(*s.LastBackup)) {
			s.LastBackup = &made
		}
	}
	return s
}

// agentTime is how long the agent may take to answer, the way to it included.
const agentTime = 30 * time.Second

// askAgent asks the agent itself, through the tunnel. That it cannot be reached is told and is no problem: it may just be starting, and
// a task that does not start is told of already. That AWS or the agent refuses is one.
func (s *CloudStatus) askAgent(ctx context.Context, d *deployment) {
	if s.Service == nil || s.Service.Running == 0 {
		s.AgentAway = "no task runs"
		return
	}
	limited, cancel := context.WithTimeout(ctx, agentTime)
	defer cancel()
	client, err := reachStack(limited, d.client, d.stack)
	if err == nil {
		defer client.Close()
		s.Agent, err = client.Status(limited)
	}
	if err != nil {
		s.AgentAway = err.Error()
		if limited.Err() != nil && ctx.Err() == nil {
			s.AgentAway = fmt.Sprintf("it did not answer within %s", agentTime)
		}
		if refused := new(cloud.Error); !errors.Is(err, api.ErrUnreachable) && limited.Err() == nil || errors.As(err, &refused) && !errors.Is(err, cloud.ErrNoTask) {
			s.Problems = append(s.Problems, err.Error())
		}
		return
	}
	for _, problem := range s.Agent.Problems {
		s.Problems = append(s.Problems, "sessions do not run: "+problem)
	}
}

func (d *deployment) serviceStatus(ctx context.Context, s *CloudStatus, problem func(error)) {
	service, err := d.client.Service(ctx, d.stack)
	problem(err)
	if err != nil {
		return
	}
	s.Service = &serviceStatus{Status: service.Status, Desired: service.Desired, Running: service.Running, Pending: service.Pending, Rollout: service.Primary().State, Steady: service.Steady()}
	if wanted, differs := d.stack.WrongCount(service); differs && !d.stack.InProgress() {
		problem(&cloud.Error{
			What: fmt.Sprintf("the service was set to %s beside the stack, which says %d", plural(service.Desired, "task", "tasks"), wanted),
			Next: fmt.Sprintf("`berth up %s` sets it to that again; `berth pause %s` has none run, and is kept", d.flags(), d.flags()),
		})
	}
	tasks, err := d.client.Tasks(ctx, d.stack)
	problem(err)
	for i, task := range tasks {
		row := taskStatus{ID: task.ID, Status: task.Status, Health: task.Health, Digest: task.Digest, Started: task.Started}
		if task.Status == "STOPPED" {
			row.Why = task.Why()
		} else if s.Image == "" {
			s.Image = task.Digest
		}
		s.Tasks = append(s.Tasks, row)
		if i == 0 && service.Running < service.Desired && failedTask(task) {
			why, next := d.autopsy(ctx, task)
			problem(&cloud.Error{What: why, Next: next})
		}
	}
	if s.Image == "" {
		s.Image = strings.TrimPrefix(d.stack.Parameters[contract.ParamImageRef], "@")
	}
}

// sessionCounts says how many sessions are in each state that has any, and how many places are taken.
func sessionCounts(status *api.Status) string {
	var parts []string
	for _, state := range api.States {
		if count := status.Sessions[state]; count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count, state))
		}
	}
	text := "none"
	if len(parts) > 0 {
		text = strings.Join(parts, ", ")
	}
	return fmt.Sprintf("%s; %d of %d places taken", text, status.Sessions[api.Preparing]+status.Sessions[api.Running], status.Places)
}

func writeCloudStatus(to io.Writer, s *CloudStatus, now time.Time) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(table, "%s\t%s\n", name, oneLine(value, 1000)) }
	row("stack", s.Stack+" in "+s.Region+", "+s.Status)
	if s.Service != nil {
		text := fmt.Sprintf("%s: %d wanted, %d running, %d pending", s.Service.Status, s.Service.Desired, s.Service.Running, s.Service.Pending)
		if s.Paused {
			text += " (paused)"
		}
		row("service", text)
	}
	for i, task := range s.Tasks {
		const most = 3
		if i == most {
			break
		}
		text := fmt.Sprintf("%s %s, %s, started %s ago", shortID(task.ID), task.Status, strings.ToLower(task.Health), age(task.Started, now))
		if task.Why != "" {
			text = fmt.Sprintf("%s %s: %s", shortID(task.ID), task.Status, task.Why)
		}
		row("task", text)
	}
	if s.Image != "" {
		where := ""
		if s.InRegistry != nil {
			where = map[bool]string{true: ", in the registry", false: ", not in the registry"}[*s.InRegistry]
			if len(s.Images) > 0 && s.Images[0].Digest != s.Image {
				where += "; the newest there is " + shortRef("@" + s.Images[0].Digest)[1:]
			}
		}
		row("image", shortRef("@" + s.Image)[1:]+where)
	}
	if s.KeySet != nil {
		row("key", map[bool]string{true: "set", false: "not set"}[*s.KeySet])
	}
	if s.Agent != nil {
		row("sessions", sessionCounts(s.Agent))
		writeSpend(row, &s.Agent.Spend)
	} else if s.AgentAway != "" {
		row("sessions", "not known, the agent cannot be reached: "+s.AgentAway)
	}
	row("alarms", fmt.Sprintf("%d of %d in ALARM", len(s.Alarms), s.AlarmsTotal))
	backup := "none yet"
	if s.LastBackup != nil {
		backup = s.LastBackup.UTC().Format("2006-01-02 15:04") + " (UTC), " + age(*s.LastBackup, now) + " ago"
	}
	row("last backup", backup)
	for _, problem := range s.Problems {
		row("PROBLEM", problem)
	}
	return table.Flush()
}
