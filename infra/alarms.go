package main

import (
	"math"
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatchactions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/contract"
	"berth/internal/options"
)

// burstCreditsLow is a tenth of the 2.1 TiB of credits that a new file system starts with
// (https://docs.aws.amazon.com/efs/latest/ug/performance.html#bursting), in bytes: enough to burst at
// 100 MiB/s for half an hour.
const burstCreditsLow = 0.1 * 2.1 * (1 << 40)

// spendWarning is the share of spendLimitUSD at which the alarm on model spend goes off. At the whole
// of it, the daemon stops spending.
const spendWarning = 0.8

// alarm is when one of contract.Alarms goes off: value compares to threshold in each of periods.
type alarm struct {
	suffix    string
	value     awscloudwatch.IMetric
	compare   awscloudwatch.ComparisonOperator
	threshold float64
	periods   int
	events    bool // it counts events: that no more come does not mean that all is well
}

// newAlarms makes the alarms that contract.Alarms describes. A test holds the two against each other.
func newAlarms(scope constructs.Construct, opts options.Options, m metrics, made parts) {
	scope = constructs.NewConstruct(scope, jsii.String("Alarms"))
	documented := make(map[string]contract.Alarm)
	for _, alarm := range contract.Alarms {
		documented[alarm.Suffix] = alarm
	}
	notify := awscloudwatchactions.NewSnsAction(made.alerts)
	for _, alarm := range alarms(scope, opts, m, made) {
		row := documented[alarm.suffix]
		resource := awscloudwatch.NewAlarm(scope, &alarm.suffix, &awscloudwatch.AlarmProps{
			AlarmName:          jsii.String(opts.Names().Alarm(alarm.suffix)),
			AlarmDescription:   jsii.String("Next: " + row.Next), // what happened, CloudWatch says itself
			Metric:             alarm.value,
			ComparisonOperator: alarm.compare,
			Threshold:          &alarm.threshold,
			EvaluationPeriods:  jsii.Number(alarm.periods),
			// No data is the rule while nothing runs. Where silence is the fault, the metric fills it in.
			TreatMissingData: awscloudwatch.TreatMissingData_NOT_BREACHING,
		})
		resource.AddAlarmAction(notify)
		if !alarm.events {
			resource.AddOkAction(notify)
		}
	}
}

const (
	above   = awscloudwatch.ComparisonOperator_GREATER_THAN_THRESHOLD
	atLeast = awscloudwatch.ComparisonOperator_GREATER_THAN_OR_EQUAL_TO_THRESHOLD
	below   = awscloudwatch.ComparisonOperator_LESS_THAN_THRESHOLD
)

func alarms(scope constructs.Construct, opts options.Options, m metrics, made parts) []alarm {
	deployment := failureRule(scope, "DeploymentFailed", opts.Names().DeploymentRule(), made.alerts, event{
		Source:     "aws.ecs",
		DetailType: "ECS Deployment State Change",
		Resources:  []*string{made.compute.service.ServiceArn()},
		Detail:     map[string]any{"eventName": []string{"SERVICE_DEPLOYMENT_FAILED"}},
	}, "$.detail.reason", "The deployment of "+opts.Names().Stack()+" failed: <reason>")
	task := failureRule(scope, "TaskFailed", opts.Names().TaskRule(), made.alerts, event{
		Source:     "aws.ecs",
		DetailType: "ECS Task State Change",
		Detail: map[string]any{
			"clusterArn": []*string{made.compute.cluster.ClusterArn()},
			"group":      []string{"service:" + opts.Names().Stack()},
			"lastStatus": []string{"STOPPED"},
			"stopCode":   []string{"EssentialContainerExited", "TaskFailedToStart"}, // not a deployment's doing, nor Spot's
		},
	}, "$.detail.stoppedReason", "A task of "+opts.Names().Stack()+" failed: <reason>")
	backup := failureRule(scope, "BackupFailed", opts.Names().BackupRule(), made.alerts, event{
		Source:     "aws.backup",
		DetailType: "Backup Job State Change",
		Detail: map[string]any{
			"state":           []string{"ABORTED", "EXPIRED", "FAILED"},
			"backupVaultName": []*string{made.backup.vault.BackupVaultName()},
		},
	}, "$.detail.statusMessage", "A backup of "+opts.Names().Stack()+" failed: <reason>")

	// A metric that nobody sends counts as zero while a task is wanted, and as nothing while none is.
	missing := func(label string, metric awscloudwatch.Metric) awscloudwatch.IMetric {
		return expression("IF(FILL(wanted,0)>0 AND FILL(seen,0)<1,1,0)", label, minutes(5), map[string]awscloudwatch.IMetric{
			"wanted": m.tasks("DesiredTaskCount"),
			"seen":   metric,
		})
	}
	state := func(suffix string, value awscloudwatch.IMetric, compare awscloudwatch.ComparisonOperator, threshold float64, periods int) alarm {
		return alarm{suffix: suffix, value: value, compare: compare, threshold: threshold, periods: periods}
	}
	events := func(suffix string, rule *string, period awscdk.Duration, count float64) alarm {
		return alarm{suffix: suffix, value: m.ruleMatches(rule, period), compare: atLeast, threshold: count, periods: 1, events: true}
	}
	list := []alarm{
		state("cpu-high", m.utilization("CPU"), above, 90, 2),
		state("memory-high", m.utilization("Memory"), above, 90, 2),
		state("no-running-task", missing("no task runs", m.tasks("RunningTaskCount")), atLeast, 1, 3),
		events("task-failed", task, minutes(15), 2),
		events("deployment-failed", deployment, minutes(5), 1),
		events("backup-failed", backup, minutes(24*60), 1),
		state("burst-credits-low", m.fileSystem("BurstCreditBalance", minimum, minutes(15)), below, burstCreditsLow, 1),
		state("sessions-failed", expression("ended-succeeded", "sessions that failed", minutes(60), map[string]awscloudwatch.IMetric{
			"ended":     m.agent(contract.MetricSessionSuccess, sampleCount, minutes(60)),
			"succeeded": m.agent(contract.MetricSessionSuccess, sum, minutes(60)),
		}), atLeast, 3, 1),
		state("sessions-stuck", missing("no heartbeat", m.agent(contract.MetricHeartbeat, maximum, minutes(5))), atLeast, 1, 3),
		state("key-refused", m.agent(contract.MetricKeyRefused, maximum, minutes(5)), atLeast, 1, 1),
	}
	if opts.SpendLimitUSD > 0 {
		list = append(list, state("spend-high", m.agent(contract.MetricSpendMonth, maximum, minutes(5)), atLeast, math.Round(100*spendWarning*opts.SpendLimitUSD)/100, 1))
	}
	return list
}

// event is an EventBridge pattern; without resources it matches those of any.
type event struct {
	Source, DetailType string
	Resources          []*string
	Detail             map[string]any
}

// failureRule makes a rule that notifies the topic of each event with its reason, found at reasonPath,
// and returns the rule's name, under which CloudWatch counts the events. The alarm on that count has
// the state; the notification has the cause, which an alarm cannot carry.
func failureRule(scope constructs.Construct, id, name string, topic awssns.Topic, on event, reasonPath, message string) *string {
	pattern := map[string]any{
		"source":      []string{on.Source},
		"detail-type": []string{on.DetailType},
		"detail":      on.Detail,
	}
	if len(on.Resources) > 0 { // to EventBridge, an empty list matches nothing
		pattern["resources"] = on.Resources
	}
	awsevents.NewCfnRule(scope, &id, &awsevents.CfnRuleProps{
		Name:         &name,
		EventPattern: pattern,
		Targets: &[]any{&awsevents.CfnRule_TargetProperty{
			Id:  jsii.String("alerts"),
			Arn: topic.TopicArn(),
			InputTransformer: &awsevents.CfnRule_InputTransformerProperty{
				InputPathsMap: &map[string]*string{"reason": &reasonPath},
				InputTemplate: jsii.String(strconv.Quote(message)),
			},
		}},
	})
	return &name
}
