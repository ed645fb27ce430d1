package main

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/contract"
	"berth/internal/options"
)

// Widgets stand in rows across the dashboard's 24 columns.
const (
	half   = 12
	third  = 8
	whole  = 24
	height = 6
)

// newDashboard shows, from the top: how sessions fare and what they cost, the task, the file system,
// and the log's answers to the questions that follow.
func newDashboard(scope constructs.Construct, opts options.Options, m metrics, logs awslogs.LogGroup) awscloudwatch.Dashboard {
	dashboard := awscloudwatch.NewDashboard(scope, jsii.String("Dashboard"), &awscloudwatch.DashboardProps{
		DashboardName: jsii.String(opts.Names().Stack()),
	})
	dashboard.AddWidgets(
		graph("Sessions", third,
			named("ended", m.agent(contract.MetricSessionSuccess, sampleCount, minutes(5))),
			named("succeeded", m.agent(contract.MetricSessionSuccess, sum, minutes(5))),
			named("running", m.agent(contract.MetricActiveSessions, maximum, minutes(5))),
			named("queued", m.agent(contract.MetricQueueDepth, maximum, minutes(5))),
			named("interrupted", m.agent(contract.MetricInterruptions, sum, minutes(5))),
			named("resumed", m.agent(contract.MetricResumes, sum, minutes(5)))),
		graph("Session duration (s)", third,
			named("median", m.agent(contract.MetricSessionDuration, median, minutes(5))),
			named("p95", m.agent(contract.MetricSessionDuration, tail, minutes(5)))),
		graph("Model spend (US$)", third,
			named("this month", m.agent(contract.MetricSpendMonth, maximum, minutes(5))),
			named("by session", m.agent(contract.MetricSessionCost, sum, minutes(5)))),
	)
	dashboard.AddWidgets(
		graph("CPU and memory (%)", half,
			named("CPU", m.utilization("CPU")),
			named("memory", m.utilization("Memory"))),
		graph("Tasks and tokens", half,
			named("wanted", m.tasks("DesiredTaskCount")),
			named("running", m.tasks("RunningTaskCount")),
			named("tokens", m.agent(contract.MetricSessionTokens, sum, minutes(5)))),
	)
	dashboard.AddWidgets(
		graph("EFS throughput (bytes/s)", third,
			perSecond("read", m.fileSystem("DataReadIOBytes", sum, minutes(5))),
			perSecond("written", m.fileSystem("DataWriteIOBytes", sum, minutes(5)))),
		graph("EFS operations (1/s)", third,
			perSecond("read", m.fileSystem("DataReadIOBytes", sampleCount, minutes(5))),
			perSecond("write", m.fileSystem("DataWriteIOBytes", sampleCount, minutes(5))),
			perSecond("metadata", m.fileSystem("MetadataIOBytes", sampleCount, minutes(5)))),
		graph("EFS burst credits (bytes)", third,
			named("left", m.fileSystem("BurstCreditBalance", minimum, minutes(15)))),
	)
	for _, question := range questions() {
		dashboard.AddWidgets(awscloudwatch.NewLogQueryWidget(&awscloudwatch.LogQueryWidgetProps{
			Title:         jsii.String(question.title),
			LogGroupNames: &[]*string{logs.LogGroupName()},
			QueryLines:    jsii.Strings(question.query...),
			View:          awscloudwatch.LogQueryVisualizationType_TABLE,
			Width:         jsii.Number(whole),
			Height:        jsii.Number(height),
		}))
	}
	compact(awscdk.Stack_Of(scope), dashboard)
	return dashboard
}

// question is a Logs Insights query and what it answers.
type question struct {
	title string
	query []string
}

func questions() []question {
	ended := fmt.Sprintf("filter %s = %q", contract.LogFieldMessage, contract.LogSessionEnded)
	return []question{
		{"Which sessions failed, and why?", []string{
			fmt.Sprintf("fields @timestamp, %s, %s, %s", contract.LogFieldSession, contract.LogFieldErrorCode, contract.LogFieldError),
			fmt.Sprintf("%s and %s = %q", ended, contract.LogFieldState, "failed"),
			"sort @timestamp desc", "limit 20",
		}},
		{"Which sessions cost most?", []string{
			ended,
			fmt.Sprintf("stats max(%s) as usd, max(%s) as seconds by %s", contract.LogFieldCostUSD, contract.LogFieldDuration, contract.LogFieldSession),
			"sort usd desc", "limit 20",
		}},
		{"What goes wrong, how often, since when?", []string{
			fmt.Sprintf("filter %s in [%q, %q]", contract.LogFieldLevel, "ERROR", "WARN"),
			fmt.Sprintf("stats count(*) as times, min(@timestamp) as first, max(@timestamp) as last by %s", contract.LogFieldMessage),
			"sort times desc", "limit 20",
		}},
	}
}

func graph(title string, width float64, lines ...awscloudwatch.IMetric) awscloudwatch.IWidget {
	return awscloudwatch.NewGraphWidget(&awscloudwatch.GraphWidgetProps{
		Title: &title, Width: &width, Height: jsii.Number(height), Left: &lines,
	})
}

func named(label string, metric awscloudwatch.Metric) awscloudwatch.Metric {
	return metric.With(&awscloudwatch.MetricOptions{Label: &label})
}
