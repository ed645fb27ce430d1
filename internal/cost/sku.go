package cost

// Key names one price, the same in every region.
type Key string

// The prices that an estimate may need.
const (
	FargateX86VCPU       Key = "fargate-x86-vcpu"
	FargateX86Memory     Key = "fargate-x86-memory"
	FargateARMVCPU       Key = "fargate-arm-vcpu"
	FargateARMMemory     Key = "fargate-arm-memory"
	FargateSpotX86VCPU   Key = "fargate-spot-x86-vcpu"
	FargateSpotX86Memory Key = "fargate-spot-x86-memory"
	FargateSpotARMVCPU   Key = "fargate-spot-arm-vcpu"
	FargateSpotARMMemory Key = "fargate-spot-arm-memory"
	FargateDisk          Key = "fargate-ephemeral-storage"
	EFSStandard          Key = "efs-standard"
	EFSInfrequent        Key = "efs-infrequent-access"
	EFSInfrequentAccess  Key = "efs-infrequent-access-transfer"
	BackupEFS            Key = "backup-efs-warm"
	LogsIngestion        Key = "logs-ingestion"
	LogsStorage          Key = "logs-storage"
	CustomMetric         Key = "custom-metric"
	MetricRequest        Key = "metric-request"
	AlarmMetric          Key = "alarm-metric"
	Dashboard            Key = "dashboard"
	Secret               Key = "secret"
	ECRStorage           Key = "ecr-storage"
	PublicIPv4           Key = "public-ipv4"
	DataOut              Key = "data-transfer-out"
)

// sku says what a key stands for, and where the AWS Price List API has it.
type sku struct {
	name string // for people
	unit string // what one of it is

	// service and usage find it in the API: the service's code, and the usage type without its
	// region's prefix ("EUC1-", "USE1-", or none). Both are empty where the API does not have it:
	// Spot prices float, and a dashboard costs the same everywhere and belongs to no region.
	service, usage string

	// worldwide marks a price that is the same in every region, which us-east-1's table holds.
	worldwide bool
}

var skus = map[Key]sku{
	FargateX86VCPU:       {name: "Fargate vCPU (x86_64)", unit: "vCPU-hour", service: "AmazonECS", usage: "Fargate-vCPU-Hours:perCPU"},
	FargateX86Memory:     {name: "Fargate memory (x86_64)", unit: "GB-hour", service: "AmazonECS", usage: "Fargate-GB-Hours"},
	FargateARMVCPU:       {name: "Fargate vCPU (arm64)", unit: "vCPU-hour", service: "AmazonECS", usage: "Fargate-ARM-vCPU-Hours:perCPU"},
	FargateARMMemory:     {name: "Fargate memory (arm64)", unit: "GB-hour", service: "AmazonECS", usage: "Fargate-ARM-GB-Hours"},
	FargateSpotX86VCPU:   {name: "Fargate Spot vCPU (x86_64)", unit: "vCPU-hour"},
	FargateSpotX86Memory: {name: "Fargate Spot memory (x86_64)", unit: "GB-hour"},
	FargateSpotARMVCPU:   {name: "Fargate Spot vCPU (arm64)", unit: "vCPU-hour"},
	FargateSpotARMMemory: {name: "Fargate Spot memory (arm64)", unit: "GB-hour"},
	FargateDisk:          {name: "Fargate ephemeral storage", unit: "GB-hour", service: "AmazonECS", usage: "Fargate-EphemeralStorage-GB-Hours"},
	EFSStandard:          {name: "EFS Standard storage", unit: "GB-month", service: "AmazonEFS", usage: "TimedStorage-ByteHrs"},
	EFSInfrequent:        {name: "EFS Infrequent Access storage", unit: "GB-month", service: "AmazonEFS", usage: "IATimedStorage-ByteHrs"},
	EFSInfrequentAccess:  {name: "EFS Infrequent Access reads and writes", unit: "GB", service: "AmazonEFS", usage: "IADataAccess-Bytes"},
	BackupEFS:            {name: "AWS Backup of EFS, warm storage", unit: "GB-month", service: "AWSBackup", usage: "WarmStorage-ByteHrs-EFS"},
	LogsIngestion:        {name: "CloudWatch Logs ingestion", unit: "GB", service: "AmazonCloudWatch", usage: "DataProcessing-Bytes"},
	LogsStorage:          {name: "CloudWatch Logs storage", unit: "GB-month", service: "AmazonCloudWatch", usage: "TimedStorage-ByteHrs"},
	CustomMetric:         {name: "CloudWatch custom metric", unit: "metric-month", service: "AmazonCloudWatch", usage: "CW:MetricMonitorUsage"},
	MetricRequest:        {name: "CloudWatch metric request", unit: "request", service: "AmazonCloudWatch", usage: "CW:Requests"},
	AlarmMetric:          {name: "CloudWatch alarm", unit: "alarm-metric-month", service: "AmazonCloudWatch", usage: "CW:AlarmMonitorUsage"},
	Dashboard:            {name: "CloudWatch dashboard", unit: "dashboard-month", worldwide: true},
	Secret:               {name: "Secrets Manager secret", unit: "secret-month", service: "AWSSecretsManager", usage: "AWSSecretsManager-Secrets"},
	ECRStorage:           {name: "ECR storage", unit: "GB-month", service: "AmazonECR", usage: "TimedStorage-ByteHrs"},
	PublicIPv4:           {name: "public IPv4 address", unit: "hour", service: "AmazonVPC", usage: "PublicIPv4:InUseAddress"},
	DataOut:              {name: "data transfer out to the internet", unit: "GB", service: "AWSDataTransfer", usage: "DataTransfer-Out-Bytes"},
}
