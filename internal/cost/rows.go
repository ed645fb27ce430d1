package cost

import (
	"fmt"
	"math/big"
	"strings"

	"berth/internal/contract"
	"berth/internal/options"
)

// Names of the rows that the specification has too.
const (
	rowFargate     = "ECS Fargate"
	rowFargateSpot = "ECS Fargate Spot"
	rowEFS         = "EFS"
	rowLogs        = "CloudWatch Logs"
	rowSecrets     = "Secrets Manager"
	rowBackup      = "Backup"
)

func (b *builder) build() {
	b.compute()
	b.storage()
	b.logs()
	b.observability()
	b.rest()
}

func (b *builder) compute() {
	o, hours := b.options, exact(b.assumptions.Hours)
	resource, cpu, memory := rowFargate, FargateX86VCPU, FargateX86Memory
	switch arm := o.Architecture == options.ARM64; {
	case o.UseFargateSpot && arm:
		resource, cpu, memory = rowFargateSpot, FargateSpotARMVCPU, FargateSpotARMMemory
	case o.UseFargateSpot:
		resource, cpu, memory = rowFargateSpot, FargateSpotX86VCPU, FargateSpotX86Memory
	case arm:
		cpu, memory = FargateARMVCPU, FargateARMMemory
	}
	vcpus, gb := big.NewRat(int64(o.CPU), 1024), big.NewRat(int64(o.MemoryMiB), 1024)
	dollars := product(hours, vcpus, b.rate(cpu))
	dollars.Add(dollars, product(hours, gb, b.rate(memory)))
	b.row(resource, fmt.Sprintf("%s vCPU, %s GB, %s", short(vcpus), short(gb), o.Architecture),
		fmt.Sprintf("%s h; %s, %s", number(b.assumptions.Hours), b.show(cpu), b.show(memory)), dollars)

	extra := max(o.EphemeralStorageGiB-includedDiskGB, 0)
	assumption, dollars := fmt.Sprintf("%d GB are included", includedDiskGB), new(big.Rat)
	if extra > 0 {
		dollars = product(hours, whole(extra), b.rate(FargateDisk))
		assumption = fmt.Sprintf("%s; %s h; %s", assumption, number(b.assumptions.Hours), b.show(FargateDisk))
	}
	b.row("Ephemeral storage", fmt.Sprintf("%d GB", o.EphemeralStorageGiB), assumption, dollars)

	b.address()
}

func (b *builder) address() {
	const resource = "Public IPv4 address"
	if b.assumptions.PublicIPs == 0 {
		b.row(resource, "0 addresses", "the task is taken to be in private subnets", new(big.Rat))
		return
	}
	network := "no NAT gateway, no load balancer"
	if o := b.options; o.VpcID != options.VpcDefault && o.VpcID != options.VpcNew {
		network = "--public-ips 0 where the VPC's subnets are private"
	}
	b.row(resource, "1 address", fmt.Sprintf("%s h; %s; %s", number(b.assumptions.Hours), b.show(PublicIPv4), network),
		product(exact(b.assumptions.Hours), b.rate(PublicIPv4)))
}

func (b *builder) storage() {
	a := b.assumptions
	gb := exact(a.EFSGB)
	infrequent := product(gb, exact(a.EFSInfrequentShare), big.NewRat(1, 100))
	standard := new(big.Rat).Sub(gb, infrequent)
	b.row(rowEFS, short(standard)+" GB", b.show(EFSStandard)+"; bursting throughput has no charge of its own",
		product(standard, b.rate(EFSStandard)))
	if a.EFSInfrequentShare > 0 {
		b.row("EFS Infrequent Access", short(infrequent)+" GB", b.show(EFSInfrequent),
			product(infrequent, b.rate(EFSInfrequent)))
	}
	if a.EFSInfrequentGB > 0 {
		b.row("EFS Infrequent Access transfer", number(a.EFSInfrequentGB)+" GB", b.show(EFSInfrequentAccess),
			product(exact(a.EFSInfrequentGB), b.rate(EFSInfrequentAccess)))
	}
	b.row(rowBackup, number(a.backupGB())+" GB", b.show(BackupEFS)+"; one full copy, then changes only",
		product(exact(a.backupGB()), b.rate(BackupEFS)))
}

// logs prices what comes in, and what is kept of it once the retention has passed for the first
// time: ingestion per day x days. AWS bills what it has compressed; this counts it as it came in, so
// the storage is an upper bound.
func (b *builder) logs() {
	gb, days := exact(b.assumptions.LogsGB), b.options.LogRetentionDays
	kept := product(gb, big.NewRat(int64(days)*24, hoursPerMonth))
	retention := fmt.Sprintf("kept %d days", days)
	if days == 0 {
		kept = product(gb, whole(logMonthsForEver))
		retention = fmt.Sprintf("kept for ever (after %d months)", logMonthsForEver)
	}
	dollars := product(gb, b.rate(LogsIngestion))
	dollars.Add(dollars, product(kept, b.rate(LogsStorage)))
	b.row(rowLogs, number(b.assumptions.LogsGB)+" GB", fmt.Sprintf("%s, %s; %s",
		b.show(LogsIngestion), retention, b.show(LogsStorage)), dollars)
}

func (b *builder) observability() {
	hours := exact(b.assumptions.Hours)
	// A custom metric is billed for the hours in which values come in.
	months := product(hours, big.NewRat(1, hoursPerMonth))

	insights := product(whole(insightsMetrics), months, b.rate(CustomMetric))
	insights.Add(insights, product(exact(insightsLogsGB), months, b.rate(LogsIngestion)))
	b.row("Container Insights", fmt.Sprintf("%d metrics, %s GB of logs", insightsMetrics, number(insightsLogsGB)),
		"1 cluster, 1 service, 1 task family, standard mode; "+b.show(CustomMetric), insights)

	custom := len(contract.Metrics)
	b.row("Custom metrics", fmt.Sprintf("%d metrics", custom), b.show(CustomMetric),
		product(whole(custom), months, b.rate(CustomMetric)))

	requests := product(hours, whole(requestsPerHour))
	b.row("Metric requests", short(requests)+" requests", "1 PutMetricData a minute; $"+
		thousand(b.table.Prices[MetricRequest])+" per 1,000", product(requests, b.rate(MetricRequest)))

	alarms := 0
	for _, alarm := range contract.Alarms {
		if !alarm.NeedsSpendLimit || b.options.SpendLimitUSD > 0 {
			alarms += alarm.Metrics
		}
	}
	b.row("Alarms", fmt.Sprintf("%d alarm metrics", alarms), b.show(AlarmMetric), product(whole(alarms), b.rate(AlarmMetric)))
	b.row("Dashboard", "1 dashboard", b.show(Dashboard), b.rate(Dashboard))
}

func (b *builder) rest() {
	a := b.assumptions
	secrets := len(b.options.Names().Secrets())
	b.row(rowSecrets, fmt.Sprintf("%d secrets", secrets), b.show(Secret)+"; reads cost less than a cent",
		product(whole(secrets), b.rate(Secret)))
	b.row("ECR", number(a.ImagesGB)+" GB of images", b.show(ECRStorage)+"; pulls within the region are free",
		product(exact(a.ImagesGB), b.rate(ECRStorage)))
	b.row("Data transfer out", number(a.DataOutGB)+" GB", fmt.Sprintf("the account's first %d GB a month are free, then %s",
		freeDataOutGB, b.show(DataOut)), product(exact(max(a.DataOutGB-freeDataOutGB, 0)), b.rate(DataOut)))

	assumption := "normally the dominant cost; set --sessions-per-day and --cost-per-session"
	if a.SessionsPerDay > 0 {
		assumption = fmt.Sprintf("%s a day; $%s each", number(a.SessionsPerDay), trim(number(a.CostPerSession)))
	}
	sessions := product(exact(a.SessionsPerDay), big.NewRat(hoursPerMonth, 24))
	b.row("Model use (Anthropic)", short(sessions)+" sessions", assumption, product(sessions, exact(a.CostPerSession)))
}

// notes are what a reader of the estimate has to know beside its rows.
func (b *builder) notes() []string {
	notes := []string{
		"Free tiers of an account are not counted; the 100 GB of data out are.",
		"Not included: taxes, support, restores, log queries, VPC endpoints or a NAT gateway of yours; " +
			"e-mails of alarms and repeated API calls, which are cents. " +
			"A budget without actions, EventBridge events of AWS services and ECS itself are free.",
	}
	if b.options.UseFargateSpot {
		notes = append(notes, fmt.Sprintf("Spot prices float: these were observed on %s. AWS names up to 70 %% off; a Spot task can be stopped at any time.",
			b.table.Prices[b.used[0]].AsOf))
	}
	if carried := b.carried(); b.table.Live && len(carried) > 0 {
		notes = append(notes, "Not in the Price List API, taken from the embedded table: "+strings.Join(carried, ", ")+".")
	}
	return notes
}

// carried names the prices used that the Price List API does not have.
func (b *builder) carried() []string {
	var names []string
	for _, key := range b.used {
		if skus[key].service == "" {
			names = append(names, fmt.Sprintf("%s (%s)", skus[key].name, b.table.Prices[key].AsOf))
		}
	}
	return names
}

// short writes a number with as many of two decimals as it needs.
func short(r *big.Rat) string {
	return strings.TrimSuffix(strings.TrimRight(r.FloatString(2), "0"), ".")
}

func thousand(price Price) string {
	if price.rate == nil {
		return ""
	}
	return trim(product(price.rate, whole(1000)).FloatString(8))
}
