package awstest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Stack is a CloudFormation stack. The newest of its Events is the last.
type Stack struct {
	Name, Status, Reason, Template string
	Parameters, Outputs, Tags      map[string]string
	Created, Updated               time.Time
	Events                         []StackEvent
	Protected                      bool
}

// StackEvent is what CloudFormation did with a resource.
type StackEvent struct {
	Resource, Status, Reason string
	Time                     time.Time
}

// AddStack adds berth's stack of an environment, healthy, with a service of no task, an empty repository, and a key that is not set.
func (w *World) AddStack(project, environment string) *Stack {
	name := project + "-" + environment
	arn := func(service, rest string) string {
		return "arn:aws:" + service + ":" + Region + ":" + Account + ":" + rest
	}
	stack := &Stack{
		Name: name, Status: "CREATE_COMPLETE", Created: time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC), Template: `{"Resources":{}}`,
		Parameters: map[string]string{"ImageRef": ":latest", "DesiredCount": "0", "FileSystemId": ""},
		Tags:       map[string]string{"Project": project, "Environment": environment, "ManagedBy": "berth"},
		Outputs: map[string]string{
			"EcrRepositoryUri": Account + ".dkr.ecr." + Region + ".amazonaws.com/" + name, "EcsClusterName": name, "EcsServiceName": name,
			"EfsFileSystemId": "fs-0123456789abcdef0", "LogGroupName": "/ecs/" + name,
			"AnthropicApiKeySecretArn": arn("secretsmanager", "secret:"+project+"/"+environment+"/anthropic-api-key-AbCdEf"),
			"AgentSecretArn":           arn("secretsmanager", "secret:"+project+"/"+environment+"/agent-AbCdEf"),
			"EfsAccessPointId":         "fsap-0123456789abcdef0", "Architecture": "x86_64", "VpcId": "vpc-00000001", "SubnetIds": "subnet-00000001,subnet-00000002",
			"TaskSecurityGroupId": "sg-00000001", "AssignPublicIp": "ENABLED", "BackupVaultName": name,
			"BackupRoleArn": "arn:aws:iam::" + Account + ":role/" + name + "-backup", "AlertTopicArn": arn("sns", name+"-alerts"), "DashboardName": name,
			"TaskDefinitionArn": arn("ecs", "task-definition/"+name+":1"),
		},
	}
	w.Stacks[name] = stack
	w.Services[name] = &Service{Name: name, Repository: stack.Outputs["EcrRepositoryUri"]}
	w.Images[name] = nil
	w.Secrets[project+"/"+environment+"/anthropic-api-key"] = &Secret{ARN: stack.Outputs["AnthropicApiKeySecretArn"], Value: "not-set"}
	w.Secrets[project+"/"+environment+"/agent"] = &Secret{ARN: stack.Outputs["AgentSecretArn"], Value: `{"api_token":"token","github_token":"not-set"}`}
	return stack
}

func pairs(key, value string, of map[string]string) (all []object) {
	for _, name := range slices.Sorted(maps.Keys(of)) {
		all = append(all, object{key: name, value: of[name]})
	}
	return all
}

func (s *Stack) describe() object {
	described := object{
		"StackName": s.Name, "StackId": "arn:aws:cloudformation:" + Region + ":" + Account + ":stack/" + s.Name + "/1", "StackStatus": s.Status, "CreationTime": s.Created,
		"Parameters": pairs("ParameterKey", "ParameterValue", s.Parameters), "Outputs": pairs("OutputKey", "OutputValue", s.Outputs), "Tags": pairs("Key", "Value", s.Tags),
		"EnableTerminationProtection": s.Protected,
	}
	if s.Reason != "" {
		described["StackStatusReason"] = s.Reason
	}
	if !s.Updated.IsZero() {
		described["LastUpdatedTime"] = s.Updated
	}
	return described
}

func (w *World) stack(c Call) (*Stack, error) {
	name := c.Text("StackName")
	if _, rest, is := strings.Cut(name, ":stack/"); is {
		name, _, _ = strings.Cut(rest, "/")
	}
	if stack := w.Stacks[name]; stack != nil {
		return stack, nil
	}
	return nil, &Fault{400, "ValidationError", "Stack with id " + name + " does not exist"}
}

var _ = register("cloudformation", map[string]Handler{
	"DescribeStacks": func(w *World, c Call) (any, error) {
		if c.Text("StackName") == "" {
			all := []object{}
			for _, name := range slices.Sorted(maps.Keys(w.Stacks)) {
				all = append(all, w.Stacks[name].describe())
			}
			return object{"Stacks": all}, nil
		}
		stack, err := w.stack(c)
		if err != nil {
			return nil, err
		}
		return object{"Stacks": []object{stack.describe()}}, nil
	},
	"GetTemplate": func(w *World, c Call) (any, error) {
		stack, err := w.stack(c)
		if err != nil {
			return nil, err
		}
		return object{"TemplateBody": stack.Template}, nil
	},
	"DescribeStackEvents": func(w *World, c Call) (any, error) {
		stack, err := w.stack(c)
		if err != nil {
			return nil, err
		}
		all := []object{}
		for i, event := range slices.Backward(stack.Events) {
			all = append(all, object{
				"EventId": strconv.Itoa(i), "StackName": stack.Name, "StackId": stack.Name, "LogicalResourceId": event.Resource,
				"ResourceStatus": event.Status, "ResourceStatusReason": event.Reason, "Timestamp": event.Time,
			})
		}
		return object{"StackEvents": all}, nil
	},
	// What the fake CDK CLI does: it makes a stack, or changes its parameters and its template.
	"CreateStack": func(w *World, c Call) (any, error) {
		project, environment := "", ""
		for i := 1; c.Text(fmt.Sprintf("Tags.member.%d.Key", i)) != ""; i++ {
			switch value := c.Text(fmt.Sprintf("Tags.member.%d.Value", i)); c.Text(fmt.Sprintf("Tags.member.%d.Key", i)) {
			case "Project":
				project = value
			case "Environment":
				environment = value
			}
		}
		stack := w.AddStack(project, environment)
		stack.Created = w.Now()
		w.update(stack, c)
		stack.Status, stack.Updated = "CREATE_COMPLETE", time.Time{}
		return object{"StackId": stack.describe()["StackId"]}, nil
	},
	"UpdateStack": func(w *World, c Call) (any, error) {
		stack, err := w.stack(c)
		if err != nil {
			return nil, err
		}
		w.update(stack, c)
		return object{"StackId": stack.describe()["StackId"]}, nil
	},
	"UpdateTerminationProtection": func(w *World, c Call) (any, error) {
		stack, err := w.stack(c)
		if err != nil {
			return nil, err
		}
		stack.Protected = c.Text("EnableTerminationProtection") == "true"
		return object{"StackId": stack.describe()["StackId"]}, nil
	},
	"DeleteStack": func(w *World, c Call) (any, error) {
		stack, err := w.stack(c)
		if err == nil {
			delete(w.Stacks, stack.Name)
			delete(w.Services, stack.Name)
			w.takeAlong(stack)
		}
		return object{}, nil
	},
})

// takeAlong deletes what goes with a stack: its secrets, and outside prod its data.
func (w *World) takeAlong(stack *Stack) {
	for _, name := range []string{"AnthropicApiKeySecretArn", "AgentSecretArn"} {
		if secret, _, err := w.secret(stack.Outputs[name]); err == nil {
			delete(w.Secrets, secret)
		}
	}
	if stack.Tags["Environment"] == "prod" {
		for _, file := range w.Files() {
			clear(file.Targets) // they are the stack's
		}
		return
	}
	delete(w.Files(), stack.Outputs["EfsFileSystemId"])
	delete(w.Images, stack.Name)
	delete(w.LogLines, stack.Outputs["LogGroupName"])
	delete(w.Backups().Points, stack.Name)
}

// update is an update of a stack to its end, and a roll-out if the image or the number of tasks changed.
func (w *World) update(stack *Stack, c Call) {
	before := maps.Clone(stack.Parameters)
	for i := 1; ; i++ {
		name := c.Text(fmt.Sprintf("Parameters.member.%d.ParameterKey", i))
		if name == "" {
			break
		}
		if c.Text(fmt.Sprintf("Parameters.member.%d.UsePreviousValue", i)) != "true" {
			stack.Parameters[name] = c.Text(fmt.Sprintf("Parameters.member.%d.ParameterValue", i))
		}
	}
	if template := c.Text("TemplateBody"); template != "" {
		stack.Template = template
	}
	stack.Status, stack.Updated = "UPDATE_COMPLETE", w.Now()
	if maps.Equal(before, stack.Parameters) {
		return
	}
	desired, _ := strconv.Atoi(stack.Parameters["DesiredCount"])
	if problem := w.roll(stack.Name, stack.Parameters["ImageRef"], desired); problem != "" {
		stack.Status, stack.Parameters = "UPDATE_ROLLBACK_COMPLETE", before
		stack.Events = append(stack.Events, StackEvent{"ComputeService", "UPDATE_FAILED", problem, w.Now()},
			StackEvent{stack.Name, "UPDATE_ROLLBACK_IN_PROGRESS", "The following resource(s) failed to update: [ComputeService].", w.Now()})
	}
}
