package options

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"berth/internal/contract"
)

// Option is a row of the documentation's table, and how its value is read.
type Option struct {
	Name        string
	Default     string // empty: unset
	Allowed     string // what a value may be, as an error says it
	Description string

	set func(*Options, string) bool // false: not allowed
}

// Table lists every option; the specification's six come first.
var Table = []Option{
	{
		"projectName", "claude-code", "lower-case letters, digits and single hyphens, beginning with a letter",
		"Project name prefix", func(o *Options, s string) bool {
			o.ProjectName = s
			return projectName.MatchString(s)
		},
	},
	{"environment", "dev", "dev, staging or prod", "Environment (dev/staging/prod)", func(o *Options, s string) bool {
		o.Environment = s
		return slices.Contains(contract.Environments, s)
	}},
	{"cpu", "2048", "256, 512, 1024, 2048, 4096, 8192 or 16384", "CPU units (1024 = 1 vCPU)", func(o *Options, s string) bool {
		_, known := fargateMemory[integer(&o.CPU, s)]
		return known
	}},
	{
		"memory", "8192", "a whole number of MB that Fargate offers with the CPU, such as 8192",
		"Memory in MB", func(o *Options, s string) bool { return integer(&o.MemoryMiB, s) > 0 },
	},
	{
		"useFargateSpot", "false", "true or false",
		"Use Spot capacity: up to 70 % cheaper, and reclaimed at two minutes' notice", func(o *Options, s string) bool {
			o.UseFargateSpot = s == "true"
			return s == "true" || s == "false"
		},
	},
	{
		"logRetentionDays", "7", "never, or one of " + list(retentionDays),
		"CloudWatch log retention", func(o *Options, s string) bool {
			return s == "never" || slices.Contains(retentionDays, integer(&o.LogRetentionDays, s))
		},
	},
	{
		"architecture", string(X8664), "x86_64 or arm64",
		"Processor of the task and its image (arm64 is 20 % cheaper)", func(o *Options, s string) bool {
			o.Architecture = Architecture(s)
			return o.Architecture == X8664 || o.Architecture == ARM64
		},
	},
	{
		"ephemeralStorageGiB", "20", "a whole number from 20 (free of charge) to 200",
		"Local disk for work in progress, in GiB", func(o *Options, s string) bool {
			n := integer(&o.EphemeralStorageGiB, s)
			return 20 <= n && n <= 200
		},
	},
	{
		"maxSessions", "4", "a whole number from 1 to 100",
		"Sessions that run at once; the others wait their turn", func(o *Options, s string) bool {
			n := integer(&o.MaxSessions, s)
			return 1 <= n && n <= 100
		},
	},
	{
		"vpcId", VpcDefault, "default, new, or a VPC's id such as vpc-0123456789abcdef0",
		"Network: the account's default VPC, a new small one, or one you have", func(o *Options, s string) bool {
			o.VpcID = s
			return s == VpcDefault || s == VpcNew || vpcID.MatchString(s)
		},
	},
	{
		"availabilityZones", "", "zones' names with commas between, such as us-east-1a,us-east-1b",
		"Zones to use, at most 3, or 2 of a new VPC; without it the first ones",
		func(o *Options, s string) bool {
			o.AvailabilityZones = strings.Split(s, ",")
			return !slices.ContainsFunc(o.AvailabilityZones, func(zone string) bool { return !zoneName.MatchString(zone) })
		},
	},
	{
		"fileSystemId", "", "a file system's id such as fs-0123456789abcdef0",
		"Adopt this EFS file system, which has no mount target, instead of making one", func(o *Options, s string) bool {
			o.FileSystemID = s
			return fileSystemID.MatchString(s)
		},
	},
	{
		"alertEmail", "", "one e-mail address of at most 128 characters, such as ops@example.com",
		"Address that alarms and budget alerts are sent to", func(o *Options, s string) bool {
			o.AlertEmail = s
			return email.MatchString(s) && len(s) <= 128
		},
	},
	{
		"spendLimitUSD", "", "dollars a month from 1 to 1000000, such as 250 or 99.50",
		"Monthly limit: of model use, enforced by the daemon; of AWS charges, a budget with alerts at 50, 80 and 100 %",
		func(o *Options, s string) bool {
			if !dollars.MatchString(s) {
				return false
			}
			limit, err := strconv.ParseFloat(s, 64)
			o.SpendLimitUSD = limit
			return err == nil && 1 <= limit && limit <= 1_000_000
		},
	},
	{
		"anthropicBaseUrl", "https://api.anthropic.com", "an https address of host, port and path such as https://api.example.com/v1 (http only for loopback), of at most 128 characters",
		"Messages API that the daemon calls", func(o *Options, s string) bool {
			o.AnthropicBaseURL = s
			u, err := url.Parse(s)
			if err != nil || len(s) > 128 || !httpsURL.MatchString(s) && !loopbackURL.MatchString(s) {
				return false
			}
			port, err := strconv.Atoi(cmp.Or(u.Port(), "443"))
			return err == nil && 1 <= port && port <= 65535
		},
	},
}

var (
	projectName  = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	vpcID        = regexp.MustCompile(`^vpc-[0-9a-f]{8}([0-9a-f]{9})?$`)
	zoneName     = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9][a-h]$`)
	fileSystemID = regexp.MustCompile(`^fs-[0-9a-f]{8}([0-9a-f]{9})?$`)
	email        = regexp.MustCompile(`^[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$`)
	// Nothing that the CDK, CloudFormation or a shell would take for its own.
	httpsURL    = regexp.MustCompile(`^https://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$`)
	loopbackURL = regexp.MustCompile(`^http://(127\.0\.0\.1|localhost)(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$`)
	dollars     = regexp.MustCompile(`^[1-9][0-9]*(\.[0-9]{1,2})?$`)
	wholeNumber = regexp.MustCompile(`^[1-9][0-9]{0,8}$`)
)

// retentionDays are the values that CloudWatch Logs takes
// (https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html).
var retentionDays = []int{
	1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
}

// memoryRange is the memory that Fargate offers with an amount of CPU, in MiB.
type memoryRange struct{ min, max, step int }

// fargateMemory maps CPU units to memory
// (https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html).
var fargateMemory = map[int]memoryRange{
	256:   {512, 2048, 512}, // 512, 1024 and 2048: checkFargatePair leaves out 1536
	512:   {1024, 4096, 1024},
	1024:  {2048, 8192, 1024},
	2048:  {4096, 16384, 1024},
	4096:  {8192, 30720, 1024},
	8192:  {16384, 61440, 4096},
	16384: {32768, 122880, 8192},
}

func checkFargatePair(o Options) error {
	offered := fargateMemory[o.CPU]
	allowed := fmt.Sprintf("%d to %d in steps of %d with cpu %d", offered.min, offered.max, offered.step, o.CPU)
	ok := offered.min <= o.MemoryMiB && o.MemoryMiB <= offered.max && o.MemoryMiB%offered.step == 0
	if o.CPU == 256 {
		allowed = "512, 1024 or 2048 with cpu 256"
		ok = ok && o.MemoryMiB != 1536
	}
	if !ok {
		return &Error{"memory", strconv.Itoa(o.MemoryMiB), allowed}
	}
	return nil
}

// checkZones bounds the zones, for with more the template could outgrow what CloudFormation takes
// without a bucket, and refuses one that is named twice.
func checkZones(o Options) error {
	most := 3
	if o.VpcID == VpcNew {
		most = 2
	}
	zones := slices.Clone(o.AvailabilityZones)
	slices.Sort(zones)
	if len(zones) > most || len(slices.Compact(zones)) < len(o.AvailabilityZones) {
		return &Error{"availabilityZones", strings.Join(o.AvailabilityZones, ","), fmt.Sprintf("at most %d zones with vpcId=%s, each once", most, o.VpcID)}
	}
	return nil
}

// integer reads a positive whole number without sign, point, exponent or leading zero into target,
// and returns it; 0 where value is none.
func integer(target *int, value string) int {
	*target = 0
	if wholeNumber.MatchString(value) {
		*target, _ = strconv.Atoi(value) // the pattern admits nothing that Atoi refuses
	}
	return *target
}

func list(numbers []int) string {
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, ", ")
}
