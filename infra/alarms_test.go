package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/contract"
	"berth/internal/doctest"
)

// The documentation's table is made from the synthesised alarms and from contract.Alarms, which have to
// name the same ones: an alarm that one of them lacks fails the test, and so does an old table.
func TestDocumentedAlarmsAreTheSynthesisedOnes(t *testing.T) {
	made := templates["prod"] // has a spend limit, and so all alarms
	rows := map[string]string{}
	for _, id := range made.all("AWS::CloudWatch::Alarm") {
		properties := made.body.Resources[id].Properties
		suffix := strings.TrimPrefix(properties["AlarmName"].(string), made.options.Names().Stack()+"-")
		rows[suffix] = alarmCondition(properties)
	}
	var table strings.Builder
	table.WriteString("| alarm | goes off when | that is | what to do |\n|---|---|---|---|\n")
	for _, alarm := range contract.Alarms {
		condition, synthesised := rows[alarm.Suffix]
		if !synthesised {
			t.Errorf("contract.Alarms has %s, the template has not", alarm.Suffix)
		}
		delete(rows, alarm.Suffix)
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", alarm.Suffix, alarm.Fires, condition, alarm.Next)
	}
	for suffix := range rows {
		t.Errorf("the template has the alarm %s, contract.Alarms has not", suffix)
	}
	doctest.Section(t, "../docs/alarms.md", "alarms", table.String())
}

// alarmCondition says what a synthesised alarm measures: "AWS/ECS CPUUtilization Average > 90, 2 × 300 s".
func alarmCondition(alarm map[string]any) string {
	comparison := map[string]string{
		"GreaterThanThreshold": ">", "GreaterThanOrEqualToThreshold": "≥", "LessThanThreshold": "<",
	}[alarm["ComparisonOperator"].(string)]
	measure, period := fmt.Sprintf("%v %v %v", alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]), alarm["Period"]
	if metrics, ok := alarm["Metrics"].([]any); ok {
		var formula string
		var names []string
		for _, metric := range metrics {
			if expression, ok := at(metric, "Expression").(string); ok {
				formula = expression
				continue
			}
			stat := at(metric, "MetricStat")
			names = append(names, fmt.Sprintf("`%v` = %v %v %v", at(metric, "Id"), at(stat, "Metric", "Namespace"), at(stat, "Metric", "MetricName"), at(stat, "Stat")))
			period = at(stat, "Period")
		}
		measure = fmt.Sprintf("`%s`, %s", formula, strings.Join(names, ", "))
	}
	threshold := strconv.FormatFloat(alarm["Threshold"].(float64), 'f', -1, 64)
	return fmt.Sprintf("%s %s %s, %v × %v s", measure, comparison, threshold, alarm["EvaluationPeriods"], period)
}

func TestAlarmsNotifyAndAreQuietWithoutData(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		for _, id := range made.all("AWS::CloudWatch::Alarm") {
			alarm := made.body.Resources[id].Properties
			wantJSON(t, id, alarm["AlarmActions"], `[{"Ref": "Alerts91F83244"}]`)
			if countsEvents := alarm["Namespace"] == "AWS/Events"; countsEvents == (alarm["OKActions"] != nil) {
				t.Errorf("%s counts events: %v; when it is over it notifies %v", id, countsEvents, alarm["OKActions"])
			}
			if alarm["TreatMissingData"] != "notBreaching" || alarm["ActionsEnabled"] == false {
				t.Errorf("%s: missing data is %v, actions are enabled: %v", id, alarm["TreatMissingData"], alarm["ActionsEnabled"])
			}
		}
	})
}

// An alarm is billed for each metric that it reads, and berth cost counts them in contract.Alarms.
func TestAlarmsReadAsManyMetricsAsTheContractSays(t *testing.T) {
	made := templates["prod"]
	got := map[string]int{}
	for _, id := range made.all("AWS::CloudWatch::Alarm") {
		alarm := made.body.Resources[id].Properties
		count := 1
		if metrics, ok := alarm["Metrics"].([]any); ok {
			count = len(slices.DeleteFunc(slices.Clone(metrics), func(metric any) bool { return at(metric, "MetricStat") == nil }))
		}
		got[strings.TrimPrefix(alarm["AlarmName"].(string), made.options.Names().Stack()+"-")] = count
	}
	want := map[string]int{}
	for _, alarm := range contract.Alarms {
		want[alarm.Suffix] = alarm.Metrics
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics by alarm (-want +got):\n%s", diff)
	}
}

func TestSpendAlarmNeedsALimit(t *testing.T) {
	for variant, want := range map[string]int{"dev": 10, "prod": 11} {
		if got := len(templates[variant].all("AWS::CloudWatch::Alarm")); got != want {
			t.Errorf("%s has %d alarms, want %d", variant, got, want)
		}
	}
	if got := templates["prod"].one(t, "AWS::CloudWatch::Alarm", "spendhigh").Properties["Threshold"]; got != 200.0 {
		t.Errorf("with a limit of $250 the alarm goes off at %v, want 200", got)
	}
}

func TestFailuresAreNotifiedWithTheirReason(t *testing.T) {
	made := templates["dev"]
	deployment := made.one(t, "AWS::Events::Rule", "DeploymentFailed").Properties
	wantJSON(t, "deployments", deployment["EventPattern"], `{"source": ["aws.ecs"], "detail-type": ["ECS Deployment State Change"],
		"resources": [{"Ref": "ComputeServiceC2A22793"}], "detail": {"eventName": ["SERVICE_DEPLOYMENT_FAILED"]}}`)
	wantJSON(t, "notification", deployment["Targets"], `[{"Id": "alerts", "Arn": {"Ref": "Alerts91F83244"}, "InputTransformer": {
		"InputPathsMap": {"reason": "$.detail.reason"},
		"InputTemplate": "\"The deployment of claude-code-dev failed: <reason>\""}}]`)
	backup := made.one(t, "AWS::Events::Rule", "BackupFailed").Properties
	wantJSON(t, "backups", backup["EventPattern"], `{"source": ["aws.backup"], "detail-type": ["Backup Job State Change"],
		"detail": {"state": ["ABORTED", "EXPIRED", "FAILED"], "backupVaultName": [{"Fn::GetAtt": ["BackupVaultADF21B19", "BackupVaultName"]}]}}`)
	task := made.one(t, "AWS::Events::Rule", "TaskFailed").Properties
	wantJSON(t, "tasks", task["EventPattern"], `{"source": ["aws.ecs"], "detail-type": ["ECS Task State Change"], "detail": {
		"clusterArn": [{"Fn::GetAtt": ["ComputeCluster4F8E5F81", "Arn"]}], "group": ["service:claude-code-dev"], "lastStatus": ["STOPPED"],
		"stopCode": ["EssentialContainerExited", "TaskFailedToStart"]}}`)
	for suffix, rule := range map[string]map[string]any{"deploymentfailed": deployment, "backupfailed": backup, "taskfailed": task} {
		wantJSON(t, suffix, made.one(t, "AWS::CloudWatch::Alarm", "Alarms"+suffix).Properties["Dimensions"],
			fmt.Sprintf(`[{"Name": "RuleName", "Value": %q}]`, rule["Name"]))
	}
}

func TestAlertEmailIsSubscribed(t *testing.T) {
	wantJSON(t, "subscription", templates["prod"].one(t, "AWS::SNS::Subscription", "").Properties,
		`{"Protocol": "email", "Endpoint": "ops@example.com", "TopicArn": {"Ref": "Alerts91F83244"}}`)
	if found := templates["dev"].all("AWS::SNS::Subscription"); len(found) > 0 {
		t.Errorf("without alertEmail there is %v", found)
	}
}

// The dashboard shows what the specification lists, and its queries ask for fields that the daemon logs.
func TestDashboard(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		dashboard := made.one(t, "AWS::CloudWatch::Dashboard", "").Properties
		body := asText(dashboard["DashboardBody"])
		for _, part := range []string{
			"CPUUtilization", "MemoryUtilization", "DataReadIOBytes", "DataWriteIOBytes", "MetadataIOBytes", "BurstCreditBalance",
			"SessionSuccess", "SessionDuration", "SpendMonth", "SessionCost", "RunningTaskCount",
			"Which sessions failed, and why?", "Which sessions cost most?", "What goes wrong, how often, since when?",
		} {
			if !strings.Contains(body, part) {
				t.Errorf("the dashboard lacks %s", part)
			}
		}
		for _, metric := range contract.Metrics {
			shown := strings.Contains(body, metric)
			if only := metric == contract.MetricHeartbeat || metric == contract.MetricKeyRefused; shown == only {
				t.Errorf("the dashboard shows %s: %v", metric, shown)
			}
		}
		if dashboard["DashboardName"] != made.options.Names().Stack() {
			t.Errorf("the dashboard is called %v", dashboard["DashboardName"])
		}
	})
}
