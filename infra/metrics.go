package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/jsii-runtime-go"

	"berth/internal/contract"
	"berth/internal/options"
)

// Statistics, as CloudWatch calls them.
const (
	average     = "Average"
	sum         = "Sum"
	minimum     = "Minimum"
	maximum     = "Maximum"
	sampleCount = "SampleCount"
	median      = "p50"
	tail        = "p95"
)

// metrics makes the CloudWatch metrics of one deployment, for alarms and dashboard alike. Cluster and
// service go by name, not by reference: a reference takes ten times the room in the template.
type metrics struct {
	service     map[string]*string // dimensions
	environment *string
	volume      *string
}

func newMetrics(opts options.Options, made parts) metrics {
	name := jsii.String(opts.Names().Stack())
	return metrics{
		service:     map[string]*string{"ClusterName": name, "ServiceName": name},
		environment: jsii.String(opts.Names().MetricEnvironment()),
		volume:      made.storage.fileSystem.FileSystemId(),
	}
}

// utilization is the share in percent of the service's CPU or memory that is in use.
func (m metrics) utilization(of string) awscloudwatch.Metric {
	return metric("AWS/ECS", of+"Utilization", average, minutes(5), m.service)
}

// agent is a metric that berthd publishes.
func (m metrics) agent(name, statistic string, period awscdk.Duration) awscloudwatch.Metric {
	return metric(contract.MetricNamespace, name, statistic, period, map[string]*string{contract.MetricDimension: m.environment})
}

// tasks counts the service's tasks; Container Insights collects it.
func (m metrics) tasks(name string) awscloudwatch.Metric {
	return metric("ECS/ContainerInsights", name, maximum, minutes(5), m.service)
}

// fileSystem is a metric of the volume.
func (m metrics) fileSystem(name, statistic string, period awscdk.Duration) awscloudwatch.Metric {
	return metric("AWS/EFS", name, statistic, period, map[string]*string{"FileSystemId": m.volume})
}

// ruleMatches counts the events that an EventBridge rule matched.
func (m metrics) ruleMatches(rule *string, period awscdk.Duration) awscloudwatch.Metric {
	return metric("AWS/Events", "TriggeredRules", sum, period, map[string]*string{"RuleName": rule})
}

// perSecond turns a metric's sum or count over a period into a rate. The label also names the metric in
// the formula: a letter first, then letters, digits and underscores, and its own within a graph.
func perSecond(label string, of awscloudwatch.Metric) awscloudwatch.MathExpression {
	return expression(label+"/PERIOD("+label+")", label, of.Period(), map[string]awscloudwatch.IMetric{label: of})
}

func metric(namespace, name, statistic string, period awscdk.Duration, dimensions map[string]*string) awscloudwatch.Metric {
	return awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
		Namespace: &namespace, MetricName: &name, Statistic: &statistic, Period: period, DimensionsMap: &dimensions,
	})
}

// expression computes a value from metrics of that period, which the formula calls by their keys.
func expression(formula, label string, period awscdk.Duration, using map[string]awscloudwatch.IMetric) awscloudwatch.MathExpression {
	return awscloudwatch.NewMathExpression(&awscloudwatch.MathExpressionProps{
		Expression: &formula, Label: &label, Period: period, UsingMetrics: &using,
	})
}

func minutes(n int) awscdk.Duration { return awscdk.Duration_Minutes(jsii.Number(n)) }
