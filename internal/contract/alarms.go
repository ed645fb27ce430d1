package contract

// Alarm describes one CloudWatch alarm of the stack, for the documentation's table, for the price of
// the alarms, and for the names that berth shows. The stack's tests hold it against the template.
type Alarm struct {
	Suffix  string // the name, after the stack's
	Fires   string // when it goes off, in words
	Next    string // what to do then
	Metrics int    // metrics it reads: an alarm is billed for each of them

	// NeedsSpendLimit marks an alarm that exists only where the option spendLimitUSD is set.
	NeedsSpendLimit bool
}

// Alarms of the stack, in the order in which they are shown.
var Alarms = []Alarm{
	{
		Suffix: "cpu-high", Metrics: 1,
		Fires: "CPU above 90 % for 2 periods of 5 minutes",
		Next:  "raise `cpu`, or lower `maxSessions`",
	},
	{
		Suffix: "memory-high", Metrics: 1,
		Fires: "memory above 90 % for 2 periods of 5 minutes",
		Next:  "raise `memory`, or lower `maxSessions`: past 100 % the task is killed",
	},
	{
		Suffix: "no-running-task", Metrics: 2,
		Fires: "a task is wanted and none runs for 15 minutes",
		Next:  "look at the service's events and the stopped task's reason",
	},
	{
		Suffix: "task-failed", Metrics: 1,
		Fires: "2 tasks failed within 15 minutes: each exited by itself, or did not start",
		Next:  "the notifications carry the reasons; look at the last lines of the log",
	},
	{
		Suffix: "deployment-failed", Metrics: 1,
		Fires: "a deployment of the service failed and was rolled back",
		Next:  "the notification carries the reason; mend the image and deploy again",
	},
	{
		Suffix: "backup-failed", Metrics: 1,
		Fires: "a backup job of the vault failed in the last day",
		Next:  "look at the job's status message in AWS Backup",
	},
	{
		Suffix: "burst-credits-low", Metrics: 1,
		Fires: "less than 10 % of the file system's burst credits are left",
		Next:  "find what writes so much, or switch the file system to elastic throughput",
	},
	{
		Suffix: "sessions-failed", Metrics: 2,
		Fires: "3 or more sessions failed within an hour",
		Next:  "look at the dashboard's table of failed sessions",
	},
	{
		Suffix: "sessions-stuck", Metrics: 2,
		Fires: "a task is wanted and no heartbeat came for 15 minutes",
		Next:  "look at `berth logs`; `berth pause` and `unpause` replace the task",
	},
	{
		Suffix: "key-refused", Metrics: 1,
		Fires: "the API refuses the Anthropic key",
		Next:  "give it a valid key with `berth key set`",
	},
	{
		Suffix: "spend-high", Metrics: 1, NeedsSpendLimit: true,
		Fires: "model spend of the month reached 80 % of `spendLimitUSD`",
		Next:  "look at the sessions that cost most, or raise the limit",
	},
}
