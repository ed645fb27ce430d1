package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"berth/internal/cloud/awstest"
	"berth/internal/cost/costtest"
)

// What is deployed is estimated as it is: its options, its volume, its images, and whether a task runs.
func TestCostOfADeployment(t *testing.T) {
	l := newLab(t)
	l.running()
	l.Change(func(w *awstest.World) {
		stack := w.Stacks["claude-code-dev"]
		stack.Template = `{"Metadata":{"BerthOptions":{"cpu":"1024","memory":"4096"}}}`
		w.Files()["fs-0123456789abcdef0"].Size = 3 << 30
		w.Images["claude-code-dev"][0].Size = 512 << 20
	})
	type estimate struct {
		Rows []struct {
			Resource, Quantity, Assumption string
			Monthly                        float64 `json:"monthly_usd"`
		}
		Notes []string
	}
	ask := func(args ...string) (rows map[string]string, dollars map[string]float64, notes string) {
		t.Helper()
		got := l.berth(t, "", append([]string{"cost", "--env", "dev", "--json"}, args...)...)
		var made estimate
		if err := json.Unmarshal([]byte(got.out), &made); err != nil || got.code != 0 {
			t.Fatalf("%v: %+v", err, got)
		}
		rows, dollars = map[string]string{}, map[string]float64{}
		for _, row := range made.Rows {
			rows[row.Resource], dollars[row.Resource] = row.Quantity, row.Monthly
		}
		return rows, dollars, strings.Join(made.Notes, "\n")
	}
	rows, dollars, notes := ask()
	if rows["ECS Fargate"] != "1 vCPU, 4 GB, x86_64" || dollars["ECS Fargate"] != 42.53 || rows["EFS"] != "3 GB" || rows["ECR"] != "0.5 GB of images" || !strings.Contains(notes, "claude-code-dev as it is deployed") {
		t.Errorf("%v %v %s", rows, dollars, notes)
	}
	if rows, _, _ := ask("-c", "architecture=arm64", "--efs-gb", "50"); rows["ECS Fargate"] != "1 vCPU, 4 GB, arm64" || rows["EFS"] != "50 GB" {
		t.Errorf("what would be otherwise: %v", rows)
	}
	l.Change(func(w *awstest.World) { w.Stacks["claude-code-dev"].Parameters["DesiredCount"] = "0" })
	if _, dollars, notes := ask(); dollars["ECS Fargate"] != 0 || dollars["EFS"] == 0 || !strings.Contains(notes, "no task runs") {
		t.Errorf("paused: %v %s", dollars, notes)
	}
	if _, dollars, _ := ask("--hours", "730"); dollars["ECS Fargate"] != 42.53 {
		t.Errorf("as if it ran: %v", dollars)
	}
	if changed := l.Mutations(); len(changed) > 0 {
		t.Errorf("it changed %q", changed)
	}

	t.Run("live", func(t *testing.T) {
		list := costtest.Frankfurt()
		server := httptest.NewServer(list)
		t.Cleanup(server.Close)
		env := append(slices.Clone(l.env), "AWS_ENDPOINT_URL_PRICING="+server.URL)
		defer func(before []string) { l.env = before }(l.env)
		l.env = env
		if got := l.berth(t, "", "cost", "--env", "dev", "--region", "eu-central-1", "--live"); got.code != 0 || !strings.Contains(got.out, "asked of the AWS Price List API") || !strings.Contains(got.out, "$0.04656 per vCPU-hour") {
			t.Errorf("%+v", got)
		}
		list.FailWith = "AccessDeniedException"
		told(t, "denied", l.berth(t, "", "cost", "--env", "dev", "--region", "eu-central-1", "--live"), 1, "AWS Price List API", "allow the action pricing:GetProducts")
		list.FailWith = "ThrottlingException"
		told(t, "throttled", l.berth(t, "", "cost", "--env", "dev", "--region", "eu-central-1", "--live"), 1, "ThrottlingException", "wait a minute")
		list.FailWith = "ExpiredTokenException"
		told(t, "expired", l.berth(t, "", "cost", "--env", "dev", "--region", "eu-central-1", "--live"), 1, "ExpiredTokenException", "renew the AWS credentials")
		server.Close()
		told(t, "cut", l.berth(t, "", "cost", "--env", "dev", "--region", "eu-central-1", "--live"), 1, "AWS cannot be reached (pricing:GetProducts)", "check the network")
	})
}

// What was paid is Cost Explorer's, by the stack's tags.
func TestActualCost(t *testing.T) {
	l := newLab(t)
	l.running()
	l.Change(func(w *awstest.World) {
		w.Spends("claude-code", "dev",
			awstest.Spent{From: "2026-10-01", To: "2026-11-01", Services: []awstest.ServiceSpent{{Service: "EC2 - Other", USD: "3.1"}, {Service: "Amazon Elastic Container Service", USD: "81.2345"}}},
			awstest.Spent{From: "2026-11-01", To: "2026-11-29", Estimated: true, Services: []awstest.ServiceSpent{{Service: "Amazon Elastic File System", USD: "0.004"}}})
	})
	got := l.berth(t, "", "cost", "--env", "dev", "--actual")
	const want = `2026-10                           USD
Amazon Elastic Container Service  81.23
EC2 - Other                       3.10
Total                             84.33

2026-11 (not closed yet)    USD
Amazon Elastic File System  0.00
Total                       0.00

Without what carries no tags`
	if got.code != 0 || !strings.HasPrefix(got.out, want) {
		t.Errorf("%+v", got)
	}
	for _, call := range l.Calls() {
		if call.Service == "ce" && (call.Region != "us-east-1" || call.Mutating) {
			t.Errorf("%+v", call)
		}
	}
	var report struct {
		Stack  string
		Months []struct {
			Month    string
			Services []map[string]any
			Total    float64 `json:"total_usd"`
		}
	}
	got = l.berth(t, "", "cost", "--env", "dev", "--actual", "--json")
	if err := json.Unmarshal([]byte(got.out), &report); err != nil || len(report.Months) != 2 || report.Months[0].Total != 84.33 || report.Stack != "claude-code-dev" {
		t.Errorf("%v: %s", err, got.out)
	}
	told(t, "no cost", l.berth(t, "", "cost", "--env", "staging", "--actual"), 1, "Cost Explorer knows of no cost with the tags Project=claude-code and Environment=staging", "update-cost-allocation-tags-status")
	for _, args := range [][]string{{"--actual"}, {"--env", "dev", "--actual", "--live"}, {"--env", "dev", "--actual", "-c", "cpu=1024"}, {"--env", "test"}, {"--project", "x"}, {"--env", "dev", "-c", "cpu=3"}, {"--env", "dev", "--hours", "800"}} {
		if got := l.berth(t, "", append([]string{"cost"}, args...)...); got.code != 2 || len(got.lines()) != 1 || got.out != "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

// Sessions and spend come from the agent itself; without it, the rest is told.
func TestStatusHasTheAgents(t *testing.T) {
	l := newLab(t)
	l.running()
	l.agent.change(func() {
		l.agent.status = map[string]any{"sessions": map[string]int{"running": 1, "succeeded": 12}, "places": 4}
	})
	got := l.berth(t, "", "status", "--env", "dev")
	if got.code != 0 || !strings.Contains(got.out, "1 running, 12 succeeded; 1 of 4 places taken") || !strings.Contains(got.out, "spent today") {
		t.Errorf("%+v", got)
	}
	got = l.berth(t, "", "status", "--env", "dev", "--json")
	var status struct {
		Agent map[string]any
		Away  string `json:"agent_unreachable"`
	}
	if err := json.Unmarshal([]byte(got.out), &status); err != nil || status.Agent["places"] != 4.0 || status.Away != "" {
		t.Errorf("%v: %s", err, got.out)
	}
	l.agent.change(func() { l.agent.status = map[string]any{"problems": []string{"the API refuses the key"}} })
	told(t, "a problem of the agent's", l.berth(t, "", "status", "--env", "dev"), 1, "sessions do not run: the API refuses the key", "")
	l.agent.change(func() { l.agent.token = "another" })
	told(t, "another token", l.berth(t, "", "status", "--env", "dev"), 1, "does not take the token", "`berth pause --env dev`")
	l.Sessions(l.ssm, func(context.Context) (net.Conn, error) { return nil, errors.New("nothing listens yet") })
	if got := l.berth(t, "", "status", "--env", "dev"); got.code != 0 || !strings.Contains(got.out, "not known, the agent cannot be reached: ") || !strings.Contains(got.out, "last backup") {
		t.Errorf("%+v", got)
	}
	l.Change(func(w *awstest.World) {
		w.Services["claude-code-dev"].Tasks, w.Services["claude-code-dev"].Desired = nil, 0
		w.Stacks["claude-code-dev"].Parameters["DesiredCount"] = "0"
	})
	if got := l.berth(t, "", "status", "--env", "dev"); got.code != 0 || !strings.Contains(got.out, "cannot be reached: no task runs") {
		t.Errorf("%+v", got)
	}
}
