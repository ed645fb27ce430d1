import { Duration, Stack } from 'aws-cdk-lib';
import * as cw from 'aws-cdk-lib/aws-cloudwatch';
import { SnsAction } from 'aws-cdk-lib/aws-cloudwatch-actions';
import * as events from 'aws-cdk-lib/aws-events';
import * as logs from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';
import { Alerts } from './alerts';
import { Backup } from './backup';
import { Compute } from './compute';
import { metricNamespace, stackName } from './names';
import { Storage } from './storage';

interface ObservabilityProps {
  storage: Storage;
  compute: Compute;
  backup: Backup;
  alerts: Alerts;
  logGroup: logs.LogGroup;
}

interface AlarmSpec {
  suffix: string;
  metric: cw.IMetric;
  compare: cw.ComparisonOperator;
  threshold: number;
  periods: number;
  next: string;
  /** It counts events: that no more come does not mean that all is well. */
  events?: boolean;
}

export class Observability extends Construct {
  readonly dashboard: cw.Dashboard;

  constructor(stack: Stack, props: ObservabilityProps) {
    super(stack, 'Observability');
    const metrics = new Metrics(props.storage.fileSystem.fileSystemId);
    const action = new SnsAction(props.alerts.topic);
    const scope = new Construct(this, 'Alarms');
    for (const { suffix, metric, compare, threshold, periods, next, events } of alarms(scope, props, metrics)) {
      const alarm = new cw.Alarm(scope, suffix, {
        alarmName: `${stackName}-${suffix}`,
        alarmDescription: `Next: ${next}`,
        metric,
        comparisonOperator: compare,
        threshold,
        evaluationPeriods: periods,
        treatMissingData: cw.TreatMissingData.NOT_BREACHING,
      });
      alarm.addAlarmAction(action);
      if (!events) alarm.addOkAction(action);
    }
    this.dashboard = new cw.Dashboard(this, 'Dashboard', { dashboardName: stackName });
    for (const row of widgets(metrics, props.logGroup)) this.dashboard.addWidgets(...row);
  }
}

/** The metrics that alarms and dashboard read. */
class Metrics {
  private readonly service = { ClusterName: stackName, ServiceName: stackName };

  constructor(private readonly volume: string) {}

  utilization(of: string) {
    return metric('AWS/ECS', `${of}Utilization`, 'Average', 5, this.service);
  }
  agent(name: string, statistic: string, period = 5) {
    return metric(metricNamespace, name, statistic, period, { Environment: stackName });
  }
  tasks(name: string) {
    return metric('ECS/ContainerInsights', name, 'Maximum', 5, this.service);
  }
  fileSystem(name: string, statistic: string, period = 5) {
    return metric('AWS/EFS', name, statistic, period, { FileSystemId: this.volume });
  }
  ruleMatches(rule: string, period = 5) {
    return metric('AWS/Events', 'TriggeredRules', 'Sum', period, { RuleName: rule });
  }
}

function metric(namespace: string, metricName: string, statistic: string, minutes: number, dimensionsMap: cw.DimensionsMap) {
  return new cw.Metric({ namespace, metricName, statistic, period: Duration.minutes(minutes), dimensionsMap });
}

function formula(expression: string, label: string, usingMetrics: Record<string, cw.Metric>) {
  return new cw.MathExpression({ expression, label, usingMetrics, period: Object.values(usingMetrics)[0].period });
}

function alarms(scope: Construct, { compute, backup, alerts }: ObservabilityProps, m: Metrics): AlarmSpec[] {
  const above = cw.ComparisonOperator.GREATER_THAN_THRESHOLD;
  const atLeast = cw.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD;
  const below = cw.ComparisonOperator.LESS_THAN_THRESHOLD;

  const failureRule = (id: string, suffix: string, eventPattern: object, reason: string, message: string) => {
    const name = `${stackName}-${suffix}`;
    new events.CfnRule(scope, id, {
      name,
      eventPattern,
      targets: [{
        id: 'alerts',
        arn: alerts.topic.topicArn,
        inputTransformer: { inputPathsMap: { reason }, inputTemplate: JSON.stringify(message) },
      }],
    });
    return name;
  };
  const deploymentFailed = failureRule('DeploymentFailed', 'deployment-failed', {
    'source': ['aws.ecs'],
    'detail-type': ['ECS Deployment State Change'],
    'resources': [compute.service.serviceArn],
    'detail': { eventName: ['SERVICE_DEPLOYMENT_FAILED'] },
  }, '$.detail.reason', `The deployment of ${stackName} failed: <reason>`);
  const taskFailed = failureRule('TaskFailed', 'task-failed', {
    'source': ['aws.ecs'],
    'detail-type': ['ECS Task State Change'],
    'detail': {
      clusterArn: [compute.cluster.clusterArn],
      group: [`service:${stackName}`],
      lastStatus: ['STOPPED'],
      stopCode: ['EssentialContainerExited', 'TaskFailedToStart'],
    },
  }, '$.detail.stoppedReason', `A task of ${stackName} failed: <reason>`);
  const backupFailed = failureRule('BackupFailed', 'backup-failed', {
    'source': ['aws.backup'],
    'detail-type': ['Backup Job State Change'],
    'detail': { state: ['ABORTED', 'EXPIRED', 'FAILED'], backupVaultName: [backup.vault.backupVaultName] },
  }, '$.detail.statusMessage', `A backup of ${stackName} failed: <reason>`);

  const missing = (label: string, seen: cw.Metric) =>
    formula('IF(FILL(wanted,0)>0 AND FILL(seen,0)<1,1,0)', label, { seen, wanted: m.tasks('DesiredTaskCount') });

  return [
    {
      suffix: 'cpu-high', metric: m.utilization('CPU'), compare: above, threshold: 90, periods: 2,
      next: 'raise `cpu`, or lower `maxSessions`',
    },
    {
      suffix: 'memory-high', metric: m.utilization('Memory'), compare: above, threshold: 90, periods: 2,
      next: 'raise `memory`, or lower `maxSessions`: past 100 % the task is killed',
    },
    {
      suffix: 'no-running-task', metric: missing('no task runs', m.tasks('RunningTaskCount')), compare: atLeast, threshold: 1, periods: 3,
      next: "look at the service's events and the stopped task's reason",
    },
    {
      suffix: 'task-failed', metric: m.ruleMatches(taskFailed, 15), compare: atLeast, threshold: 2, periods: 1, events: true,
      next: 'the notifications carry the reasons; look at the last lines of the log',
    },
    {
      suffix: 'deployment-failed', metric: m.ruleMatches(deploymentFailed), compare: atLeast, threshold: 1, periods: 1, events: true,
      next: 'the notification carries the reason; mend the image and deploy again',
    },
    {
      suffix: 'backup-failed', metric: m.ruleMatches(backupFailed, 24 * 60), compare: atLeast, threshold: 1, periods: 1, events: true,
      next: "look at the job's status message in AWS Backup",
    },
    {
      suffix: 'burst-credits-low', metric: m.fileSystem('BurstCreditBalance', 'Minimum', 15), compare: below, threshold: 0.21 * 2 ** 40, periods: 1,
      next: 'find what writes so much, or switch the file system to elastic throughput',
    },
    {
      suffix: 'sessions-failed',
      metric: formula('ended-succeeded', 'sessions that failed', {
        ended: m.agent('SessionSuccess', 'SampleCount', 60),
        succeeded: m.agent('SessionSuccess', 'Sum', 60),
      }),
      compare: atLeast, threshold: 3, periods: 1,
      next: "look at the dashboard's table of failed sessions",
    },
    {
      suffix: 'sessions-stuck', metric: missing('no heartbeat', m.agent('Heartbeat', 'Maximum')), compare: atLeast, threshold: 1, periods: 3,
      next: 'look at the log; force a new deployment if the daemon does not answer',
    },
    {
      suffix: 'key-refused', metric: m.agent('KeyRefused', 'Maximum'), compare: atLeast, threshold: 1, periods: 1,
      next: 'give it a valid key with `berth key set`',
    },
  ];
}

function widgets(m: Metrics, logGroup: logs.LogGroup): cw.IWidget[][] {
  const height = 6;
  const half = 12;
  const third = 8;
  const whole = 24;
  const graph = (title: string, width: number, ...left: cw.IMetric[]) => new cw.GraphWidget({ title, width, height, left });
  const named = (label: string, of: cw.Metric) => of.with({ label });
  const perSecond = (label: string, of: cw.Metric) => formula(`${label}/PERIOD(${label})`, label, { [label]: of });
  const ended = 'filter msg = "session ended"';
  const questions: [title: string, ...query: string[]][] = [
    ['Which sessions failed, and why?',
      'fields @timestamp, session, error_code, error', `${ended} and state = "failed"`, 'sort @timestamp desc', 'limit 20'],
    ['Which sessions cost most?',
      ended, 'stats max(cost_usd) as usd, max(duration_seconds) as seconds by session', 'sort usd desc', 'limit 20'],
    ['What goes wrong, how often, since when?',
      'filter level in ["ERROR", "WARN"]', 'stats count(*) as times, min(@timestamp) as first, max(@timestamp) as last by msg', 'sort times desc', 'limit 20'],
  ];
  return [
    [
      graph('Sessions', third,
        named('ended', m.agent('SessionSuccess', 'SampleCount')),
        named('succeeded', m.agent('SessionSuccess', 'Sum')),
        named('running', m.agent('ActiveSessions', 'Maximum')),
        named('queued', m.agent('QueueDepth', 'Maximum')),
        named('interrupted', m.agent('Interruptions', 'Sum')),
        named('resumed', m.agent('Resumes', 'Sum'))),
      graph('Session duration (s)', third,
        named('median', m.agent('SessionDuration', 'p50')),
        named('p95', m.agent('SessionDuration', 'p95'))),
      graph('Model spend (US$)', third,
        named('this month', m.agent('SpendMonth', 'Maximum')),
        named('by session', m.agent('SessionCost', 'Sum'))),
    ],
    [
      graph('CPU and memory (%)', half,
        named('CPU', m.utilization('CPU')),
        named('memory', m.utilization('Memory'))),
      graph('Tasks and tokens', half,
        named('wanted', m.tasks('DesiredTaskCount')),
        named('running', m.tasks('RunningTaskCount')),
        named('tokens', m.agent('SessionTokens', 'Sum'))),
    ],
    [
      graph('EFS throughput (bytes/s)', third,
        perSecond('read', m.fileSystem('DataReadIOBytes', 'Sum')),
        perSecond('written', m.fileSystem('DataWriteIOBytes', 'Sum'))),
      graph('EFS operations (1/s)', third,
        perSecond('read', m.fileSystem('DataReadIOBytes', 'SampleCount')),
        perSecond('write', m.fileSystem('DataWriteIOBytes', 'SampleCount')),
        perSecond('metadata', m.fileSystem('MetadataIOBytes', 'SampleCount'))),
      graph('EFS burst credits (bytes)', third,
        named('left', m.fileSystem('BurstCreditBalance', 'Minimum', 15))),
    ],
    ...questions.map(([title, ...queryLines]) => [
      new cw.LogQueryWidget({
        title, queryLines, logGroupNames: [logGroup.logGroupName],
        view: cw.LogQueryVisualizationType.TABLE, width: whole, height,
      }),
    ]),
  ];
}
