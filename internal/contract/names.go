// Package contract holds the names that the stack, the daemon and the command share.
//
// Nothing in here decides or does anything: a name that two of them must agree on is written once,
// here, and both read it.
package contract

// Environments are the deployment environments, in the order in which they are shown.
var Environments = []string{"dev", "staging", "prod"}

// Production is the environment whose data outlives its stack.
const Production = "prod"

// Names derives the name of every resource that has one of its own from the two options that tell
// one deployment from another. Resources without a name here are named by CloudFormation.
type Names struct{ Project, Environment string }

// Stack is the CloudFormation stack's name: "claude-code-dev". It is also the name of the cluster,
// the service, the task family, the image repository, the backup vault, the dashboard and the budget.
func (n Names) Stack() string { return n.Project + "-" + n.Environment }

// LogGroup is where the container's log lines go.
func (n Names) LogGroup() string { return "/ecs/" + n.Stack() }

// APIKeySecret holds the Anthropic API key as plain text, or SecretNotSet.
func (n Names) APIKeySecret() string { return n.Project + "/" + n.Environment + "/anthropic-api-key" }

// AgentSecret holds a JSON object with the keys SecretKeyAPIToken and SecretKeyGitHubToken.
//
// Its name must not end in a hyphen and six characters: Secrets Manager appends just that to make an
// ARN, and looking a secret up by a partial ARN then finds the wrong one
// (https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html, Name).
func (n Names) AgentSecret() string { return n.Project + "/" + n.Environment + "/agent" }

// Secrets lists the names of both.
func (n Names) Secrets() []string { return []string{n.APIKeySecret(), n.AgentSecret()} }

// AlertTopic is the SNS topic that every alarm notifies.
func (n Names) AlertTopic() string { return n.Stack() + "-alerts" }

// BackupPlan is the daily plan; its one selection has the same name.
func (n Names) BackupPlan() string { return n.Stack() + "-daily" }

// DeploymentRule is the EventBridge rule that matches failed deployments of the service.
func (n Names) DeploymentRule() string { return n.Stack() + "-deployment-failed" }

// BackupRule is the EventBridge rule that matches failed backup jobs of the vault.
func (n Names) BackupRule() string { return n.Stack() + "-backup-failed" }

// TaskRule is the EventBridge rule that matches tasks of the service that failed.
func (n Names) TaskRule() string { return n.Stack() + "-task-failed" }

// Alarm is the name of one of the Alarms.
func (n Names) Alarm(suffix string) string { return n.Stack() + "-" + suffix }

// MetricEnvironment is the value of the dimension Environment. It is the stack's name, because two
// projects in one account may both have a "dev", and one's heartbeat must not hide the other's silence.
func (n Names) MetricEnvironment() string { return n.Stack() }

// NameLimit is a name, the service that bounds it, and the most characters that service takes.
type NameLimit struct {
	Resource, Name string
	Max            int
}

// Limits lists the names whose services bound them most tightly. Sources: the API references of AWS
// Backup (CreateBackupVault, BackupPlanInput), EventBridge (PutRule), Budgets (Budget) and
// CloudWatch (PutMetricAlarm), read 2026-11.
func (n Names) Limits() []NameLimit {
	limits := []NameLimit{
		{"backup vault", n.Stack(), 50},
		{"backup plan", n.BackupPlan(), 50},
		{"EventBridge rule", n.DeploymentRule(), 64},
		{"budget", n.Stack(), 100},
		{"stack", n.Stack(), 128},
	}
	for _, alarm := range Alarms {
		limits = append(limits, NameLimit{"alarm", n.Alarm(alarm.Suffix), 255})
	}
	return limits
}

// Tags that every resource of a stack carries.
const (
	TagProject     = "Project"
	TagEnvironment = "Environment"
	TagManagedBy   = "ManagedBy"
	ManagedBy      = "berth"
)

// Stack parameters: what changes between deployments of one and the same template. The CDK CLI
// carries their values over from one deployment to the next.
const (
	// ParamImageRef is appended to the repository's URI: ":latest" or "@sha256:…".
	ParamImageRef = "ImageRef"
	// ParamDesiredCount is the number of tasks: 0 until there is an image, then 1.
	ParamDesiredCount = "DesiredCount"
	// ParamFileSystemID is the file system that the stack adopted, so that no later deployment starts on
	// another by accident; empty where the stack made its own.
	ParamFileSystemID = "FileSystemId"
	// DefaultImageRef is what ParamImageRef starts as.
	DefaultImageRef = ":latest"
)

// MetadataOptions is where in the template's Metadata the stack records the deploy options that are not their defaults, by name, so that
// the command can deploy it again without being told them.
const MetadataOptions = "BerthOptions"

// Stack outputs. The first six are the specification's; the others are what berth needs to find the
// rest without guessing a name.
const (
	OutputRepositoryURI     = "EcrRepositoryUri"
	OutputClusterName       = "EcsClusterName"
	OutputServiceName       = "EcsServiceName"
	OutputFileSystemID      = "EfsFileSystemId"
	OutputLogGroupName      = "LogGroupName"
	OutputAPIKeySecretARN   = "AnthropicApiKeySecretArn"
	OutputAgentSecretARN    = "AgentSecretArn"
	OutputAccessPointID     = "EfsAccessPointId"
	OutputArchitecture      = "Architecture"
	OutputVpcID             = "VpcId"
	OutputSubnetIDs         = "SubnetIds"
	OutputSecurityGroupID   = "TaskSecurityGroupId"
	OutputAssignPublicIP    = "AssignPublicIp"
	OutputBackupVaultName   = "BackupVaultName"
	OutputBackupRoleARN     = "BackupRoleArn"
	OutputAlertTopicARN     = "AlertTopicArn"
	OutputDashboardName     = "DashboardName"
	OutputTaskDefinitionARN = "TaskDefinitionArn"
)

// SecretNotSet is what a secret holds until somebody sets it. The daemon treats it as no value, and
// reports "waiting for key" rather than send it to the API.
const SecretNotSet = "not-set"

// Keys of the JSON object in the secret Names.AgentSecret.
const (
	SecretKeyAPIToken    = "api_token"
	SecretKeyGitHubToken = "github_token"
)
