package cost

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Assumptions is the use of a deployment that its options do not say. Each is a flag of `berth cost`,
// and is printed with the estimate.
type Assumptions struct {
	Hours              float64  `json:"hours" name:"hours" default:"730" placeholder:"730" help:"Hours a month that the task runs, up to 730 (an average month)."`
	PublicIPs          int      `json:"public_ips" name:"public-ips" default:"1" placeholder:"1" help:"Public IPv4 addresses: 1, or 0 where the task is in private subnets of your VPC."`
	EFSGB              float64  `json:"efs_gb" name:"efs-gb" default:"50" placeholder:"50" help:"GB on the file system, the month's average."`
	EFSInfrequentShare float64  `json:"efs_infrequent_percent" name:"efs-infrequent-percent" default:"0" placeholder:"0" help:"Per cent of it in the class Infrequent Access."`
	EFSInfrequentGB    float64  `json:"efs_infrequent_access_gb" name:"efs-infrequent-access-gb" default:"0" placeholder:"0" help:"GB a month read from or written to that class."`
	BackupGB           *float64 `json:"backup_gb" name:"backup-gb" placeholder:"GB" help:"GB of backups kept; without it, as much as is on the file system (later backups hold changes only)."`
	LogsGB             float64  `json:"logs_gb" name:"logs-gb" default:"5" placeholder:"5" help:"GB of container logs a month."`
	ImagesGB           float64  `json:"images_gb" name:"images-gb" default:"2.5" placeholder:"2.5" help:"GB of images in ECR, compressed; the repository keeps ten."`
	DataOutGB          float64  `json:"data_out_gb" name:"data-out-gb" default:"20" placeholder:"20" help:"GB a month sent to the internet; the first 100 are free."`
	SessionsPerDay     float64  `json:"sessions_per_day" name:"sessions-per-day" default:"0" placeholder:"0" help:"Sessions a day; takes --cost-per-session too."`
	CostPerSession     float64  `json:"cost_per_session_usd" name:"cost-per-session" default:"0" placeholder:"0" help:"Dollars of model use a session."`
}

// DefaultAssumptions are those of the documentation's tables. The 50 GB are the specification's, 5 GB
// of logs make its "~$3", and 2.5 GB are ten images of 250 MB. A test holds the flags' defaults
// against them.
func DefaultAssumptions() Assumptions {
	return Assumptions{Hours: hoursPerMonth, PublicIPs: 1, EFSGB: 50, LogsGB: 5, ImagesGB: 2.5, DataOutGB: 20}
}

// Check finds every assumption that cannot be used. The error joins one line for each, naming its
// flag, its value and what is allowed.
func (a Assumptions) Check() error {
	const most = 1_000_000
	backup := 0.0
	if a.BackupGB != nil {
		backup = *a.BackupGB
	}
	var errs []error
	for _, limit := range []struct {
		flag  string
		value float64
		max   float64
	}{
		{"hours", a.Hours, hoursPerMonth},
		{"public-ips", float64(a.PublicIPs), 1},
		{"efs-gb", a.EFSGB, most},
		{"efs-infrequent-percent", a.EFSInfrequentShare, 100},
		{"efs-infrequent-access-gb", a.EFSInfrequentGB, most},
		{"backup-gb", backup, most},
		{"logs-gb", a.LogsGB, most},
		{"images-gb", a.ImagesGB, most},
		{"data-out-gb", a.DataOutGB, dataOutTierGB},
		{"sessions-per-day", a.SessionsPerDay, most},
		{"cost-per-session", a.CostPerSession, most},
	} {
		given := strconv.FormatFloat(limit.value, 'g', -1, 64) // number would write 1e300 out
		_, decimals, _ := strings.Cut(number(limit.value), ".")
		switch {
		case math.IsNaN(limit.value) || limit.value < 0 || limit.value > limit.max:
			errs = append(errs, fmt.Errorf("--%s: %s is not allowed; use a number from 0 to %s",
				limit.flag, given, number(limit.max)))
		case len(decimals) > 4:
			errs = append(errs, fmt.Errorf("--%s: %s is not allowed; use at most four decimals", limit.flag, given))
		}
	}
	if (a.SessionsPerDay > 0) != (a.CostPerSession > 0) {
		errs = append(errs, errors.New("--sessions-per-day and --cost-per-session go together; give both, above 0"))
	}
	return errors.Join(errs...)
}

func (a Assumptions) backupGB() float64 {
	if a.BackupGB == nil {
		return a.EFSGB
	}
	return *a.BackupGB
}
