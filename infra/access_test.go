package main

import (
	"slices"
	"strings"
	"testing"
)

const ownLogs = `{"Fn::GetAtt": ["Logs6819BB44", "Arn"]}`

func TestExecutionRole(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		wantJSON(t, "statements", at(made.one(t, "AWS::IAM::Policy", "ExecutionRole").Properties, "PolicyDocument", "Statement"), `[
			{"Effect": "Allow", "Resource": {"Fn::GetAtt": ["Registry4DB9CCA5", "Arn"]},
			 "Action": ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]},
			{"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
			{"Effect": "Allow", "Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": `+ownLogs+`},
			{"Effect": "Allow", "Sid": "ReadSecrets", "Action": "secretsmanager:GetSecretValue",
			 "Resource": [{"Ref": "SecretsAgentB74D8CEF"}, {"Ref": "SecretsAnthropicApiKeyF6E99229"}]}]`)
	})
}

func TestTaskRole(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		wantJSON(t, "statements", at(made.one(t, "AWS::IAM::Policy", "TaskRole").Properties, "PolicyDocument", "Statement"), `[
			{"Effect": "Allow", "Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": `+ownLogs+`},
			{"Effect": "Allow", "Sid": "PutMetrics", "Action": "cloudwatch:PutMetricData", "Resource": "*",
			 "Condition": {"StringEquals": {"cloudwatch:namespace": "ClaudeCodeAgent"}}},
			{"Effect": "Allow", "Sid": "UseVolume", "Action": ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"], "Resource": "…",
			 "Condition": {"StringEquals": {"elasticfilesystem:AccessPointArn": {"Fn::Join": ["",
				["arn:aws:elasticfilesystem:us-east-1:111122223333:access-point/", {"Ref": "StorageAccessPointB746CF38"}]]}}}},
			{"Effect": "Allow", "Sid": "SessionManager", "Resource": "*", "Action": ["ssmmessages:CreateControlChannel",
				"ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel"]}]`)
		volume := asText(at(made.one(t, "AWS::IAM::Policy", "TaskRole").Properties, "PolicyDocument", "Statement", 2, "Resource"))
		if !strings.Contains(volume, "StorageFileSystem") && !strings.HasSuffix(volume, `:file-system/`+made.options.FileSystemID+`"`) {
			t.Errorf("the volume's statement is for %s", volume)
		}
	})
}

func TestRolesAreAssumedByTheirServiceAlone(t *testing.T) {
	for role, want := range map[string]string{
		"ExecutionRole": "ecs-tasks.amazonaws.com", "TaskRole": "ecs-tasks.amazonaws.com", "BackupRole": "backup.amazonaws.com",
	} {
		trust := at(templates["dev"].one(t, "AWS::IAM::Role", role).Properties, "AssumeRolePolicyDocument", "Statement")
		if got := at(trust, 0, "Principal", "Service"); got != want || at(trust, 1) != nil {
			t.Errorf("%s is assumed by %v, want %s alone", role, trust, want)
		}
		if want == "ecs-tasks.amazonaws.com" {
			wantJSON(t, role, at(trust, 0, "Condition"), `{"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
				"ArnLike": {"aws:SourceArn": {"Fn::Sub": "arn:${AWS::Partition}:ecs:${AWS::Region}:${AWS::AccountId}:*"}}}`)
		}
	}
}

// Every statement that allows something is looked at above, or is one of those that publish alarms. No
// role has another policy, and none names an action by a pattern.
func TestNoOtherRights(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		if roles, policies := len(made.all("AWS::IAM::Role")), len(made.all("AWS::IAM::Policy")); roles != 3 || policies != 2 {
			t.Errorf("there are %d roles and %d policies, want 3 and 2", roles, policies)
		}
		for _, id := range made.all("AWS::IAM::Role") {
			properties := made.body.Resources[id].Properties
			managed, _ := properties["ManagedPolicyArns"].([]any)
			if properties["Policies"] != nil || len(managed) > 0 && !strings.HasPrefix(id, "BackupRole") {
				t.Errorf("%s has policies of its own: %v %v", id, properties["Policies"], managed)
			}
		}
		wantJSON(t, "backup role", made.one(t, "AWS::IAM::Role", "BackupRole").Properties["ManagedPolicyArns"],
			`[
				{"Fn::Join": ["", ["arn:", {"Ref": "AWS::Partition"}, ":iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup"]]},
				{"Fn::Join": ["", ["arn:", {"Ref": "AWS::Partition"}, ":iam::aws:policy/service-role/AWSBackupServiceRolePolicyForRestores"]]}
			]`)
		for _, id := range made.all("AWS::IAM::Policy") {
			statements, _ := at(made.body.Resources[id].Properties, "PolicyDocument", "Statement").([]any)
			for _, statement := range statements {
				for _, action := range actions(statement) {
					if strings.ContainsAny(action, "*?") {
						t.Errorf("%s allows the pattern %s", id, action)
					}
					unbound := []string{"cloudwatch:PutMetricData", "ecr:GetAuthorizationToken"}
					if strings.Contains(asText(at(statement, "Resource")), `"*"`) && !slices.Contains(unbound, action) && !strings.HasPrefix(action, "ssmmessages:") {
						t.Errorf("%s allows %s on everything", id, action)
					}
				}
			}
		}
	})
}

func actions(statement any) []string {
	switch action := at(statement, "Action").(type) {
	case string:
		return []string{action}
	case []any:
		var list []string
		for _, each := range action {
			list = append(list, each.(string))
		}
		return list
	}
	return nil
}

func TestAlertTopicPolicy(t *testing.T) {
	wantJSON(t, "statements", at(templates["dev"].one(t, "AWS::SNS::TopicPolicy", "").Properties, "PolicyDocument", "Statement"), `[
		{"Sid": "AllowPublishThroughSSLOnly", "Effect": "Deny", "Principal": "*", "Action": "sns:Publish",
		 "Resource": {"Ref": "Alerts91F83244"}, "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
		{"Sid": "1", "Effect": "Allow", "Principal": {"Service": ["budgets.amazonaws.com", "cloudwatch.amazonaws.com"]}, "Action": "sns:Publish",
		 "Resource": {"Ref": "Alerts91F83244"}, "Condition": {"StringEquals": {"aws:SourceAccount": "111122223333"}}},
		{"Sid": "2", "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sns:Publish",
		 "Resource": {"Ref": "Alerts91F83244"}}]`)
}
