package contract

// Environment variables that berthd reads.
const (
	EnvData             = "BERTH_DATA"
	EnvWork             = "BERTH_WORK"
	EnvListen           = "BERTH_LISTEN"
	EnvAPIToken         = "BERTH_API_TOKEN"
	EnvClaude           = "BERTH_CLAUDE"
	EnvMaxSessions      = "BERTH_MAX_SESSIONS"
	EnvProject          = "BERTH_PROJECT"
	EnvEnvironment      = "BERTH_ENVIRONMENT"
	EnvSpendLimitUSD    = "BERTH_SPEND_LIMIT_USD"     // of a month
	EnvSpendLimitDayUSD = "BERTH_SPEND_LIMIT_DAY_USD" // of a day
	EnvRetentionDays    = "BERTH_RETENTION_DAYS"      // how long ended sessions are kept
	EnvCheckpoint       = "BERTH_CHECKPOINT_SECONDS"  // how long changes may be on the work disk alone
	EnvAnthropicAPIKey  = "ANTHROPIC_API_KEY"
	EnvAnthropicBaseURL = "ANTHROPIC_BASE_URL"
	EnvGitHubToken      = "GITHUB_TOKEN"
	EnvGitHubAPIURL     = "GITHUB_API_URL" // another API than GitHub's own, such as an enterprise server's

	// Files in place of the two secrets: they are read again when they change.
	EnvAnthropicAPIKeyFile = "ANTHROPIC_API_KEY_FILE"
	EnvGitHubTokenFile     = "GITHUB_TOKEN_FILE"
)

// EnvSession is in the environment of everything that runs for a session: its id.
const EnvSession = "BERTH_SESSION"

// Where things are in the container.
//
// The volume is mounted one level below VolumeParent, which the image makes root's own with mode
// 0700. An EFS access point maps every caller to its own user, so file modes on the volume keep
// nobody out: only the directory above it, on the image's own disk, can.
//
// WorkPath and TempPath are local disk. Fargate mounts them as root's own with mode 0755, unless the
// image declares them as volumes with other modes: it has to, with 1777 for TempPath.
const (
	ContainerName = "agent"
	VolumeParent  = "/data"
	VolumePath    = VolumeParent + "/volume"
	WorkPath      = "/work"
	TempPath      = "/tmp"
	DaemonPath    = "/usr/local/bin/berthd"
)

// HealthCommand is the container's health check: berthd asks the berthd that is running.
var HealthCommand = []string{DaemonPath, "health"}

// Listen is the loopback address of the HTTP API, in the container and on a laptop alike.
const Listen = "127.0.0.1:8787"

// StopTimeoutSeconds is how long a task has between SIGTERM and SIGKILL. Fargate grants no more than
// 120 s (https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html).
const StopTimeoutSeconds = 120

// VolumeUser is the user and group that owns everything on the volume: the access point maps every
// caller to it.
const VolumeUser = 1000

// CloudWatch metrics that berthd publishes, in one namespace with one dimension.
const (
	MetricNamespace = "ClaudeCodeAgent"
	MetricDimension = "Environment"

	MetricSessionSuccess  = "SessionSuccess"  // 1 or 0 for each session that ends
	MetricSessionDuration = "SessionDuration" // seconds, for each session that ends
	MetricSessionCost     = "SessionCost"     // US dollars of model use, for each session that ends
	MetricSessionTokens   = "SessionTokens"   // tokens in and out, for each session that ends
	MetricQueueDepth      = "QueueDepth"      // sessions waiting for a place
	MetricActiveSessions  = "ActiveSessions"  // sessions running
	MetricInterruptions   = "Interruptions"   // sessions cut off by a stop, a crash or a Spot reclaim
	MetricResumes         = "Resumes"         // sessions taken up again after an interruption
	MetricHeartbeat       = "Heartbeat"       // 1 a minute while every running session makes progress
	MetricKeyRefused      = "KeyRefused"      // 1 while the API refuses the key, else 0
	MetricSpendMonth      = "SpendMonth"      // US dollars of model use since the month began (UTC)
)

// Metrics lists the custom metrics; each is billed by the month.
var Metrics = []string{
	MetricSessionSuccess, MetricSessionDuration, MetricSessionCost, MetricSessionTokens,
	MetricQueueDepth, MetricActiveSessions, MetricInterruptions, MetricResumes,
	MetricHeartbeat, MetricKeyRefused, MetricSpendMonth,
}

// Log lines are JSON objects, one a line. These are the fields and the message that the dashboard's
// queries read.
const (
	LogFieldLevel     = "level" // ERROR and WARN are counted
	LogFieldMessage   = "msg"
	LogFieldSession   = "session"
	LogFieldState     = "state"
	LogFieldErrorCode = "error_code"
	LogFieldError     = "error"
	LogFieldCostUSD   = "cost_usd"
	LogFieldDuration  = "duration_seconds"

	LogSessionEnded = "session ended"
)
