package awstest

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"
)

// Image is in a repository.
type Image struct {
	Digest string
	Tags   []string
	Pushed time.Time
	Size   int
}

// Secret is in Secrets Manager.
type Secret struct {
	ARN, Value string
	Changed    time.Time
}

// LogLine is in a log group.
type LogLine struct {
	Stream, Text string
	Time         time.Time
}

// Alarm is in CloudWatch.
type Alarm struct{ Name, State, Reason string }

// VPC is in EC2.
type VPC struct {
	ID      string
	Default bool
}

var _ = register("sts", map[string]Handler{
	"GetCallerIdentity": func(*World, Call) (any, error) {
		return object{"Account": Account, "Arn": "arn:aws:iam::" + Account + ":user/somebody", "UserId": "AIDAEXAMPLE"}, nil
	},
})

var _ = register("ecr", map[string]Handler{
	"DescribeImages": func(w *World, c Call) (any, error) {
		images, found := w.Images[c.Text("repositoryName")]
		if !found {
			return nil, &Fault{400, "RepositoryNotFoundException", "The repository with name '" + c.Text("repositoryName") + "' does not exist"}
		}
		wanted, _ := c.Input["imageIds"].([]any)
		all := []object{}
		for _, image := range images {
			fits := len(wanted) == 0
			for _, each := range wanted {
				id, _ := each.(map[string]any)
				tag, _ := id["imageTag"].(string)
				fits = fits || id["imageDigest"] == image.Digest || tag != "" && slices.Contains(image.Tags, tag)
			}
			if fits {
				tags := []any{}
				for _, tag := range image.Tags {
					tags = append(tags, tag)
				}
				all = append(all, object{"repositoryName": c.Text("repositoryName"), "imageDigest": image.Digest, "imageTags": tags, "imagePushedAt": image.Pushed, "imageSizeInBytes": image.Size})
			}
		}
		if len(wanted) > 0 && len(all) == 0 {
			return nil, &Fault{400, "ImageNotFoundException", "The image requested does not exist within the repository '" + c.Text("repositoryName") + "'"}
		}
		return object{"imageDetails": all}, nil
	},
	"GetAuthorizationToken": func(w *World, _ Call) (any, error) {
		return object{"authorizationData": []object{{
			"authorizationToken": base64.StdEncoding.EncodeToString([]byte("AWS:password")), "proxyEndpoint": "https://" + Account + ".dkr.ecr." + Region + ".amazonaws.com",
			"expiresAt": w.Now().Add(12 * time.Hour),
		}}}, nil
	},
})

func (w *World) secret(id string) (name string, secret *Secret, err error) {
	for name, secret := range w.Secrets {
		if id == name || id == secret.ARN {
			return name, secret, nil
		}
	}
	return "", nil, &Fault{400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret."}
}

var _ = register("secretsmanager", map[string]Handler{
	"GetSecretValue": func(w *World, c Call) (any, error) {
		name, secret, err := w.secret(c.Text("SecretId"))
		if err != nil {
			return nil, err
		}
		return object{"ARN": secret.ARN, "Name": name, "SecretString": secret.Value, "VersionId": "1", "CreatedDate": secret.Changed}, nil
	},
	"DescribeSecret": func(w *World, c Call) (any, error) {
		name, secret, err := w.secret(c.Text("SecretId"))
		if err != nil {
			return nil, err
		}
		return object{"ARN": secret.ARN, "Name": name, "LastChangedDate": secret.Changed}, nil
	},
	"PutSecretValue": func(w *World, c Call) (any, error) {
		name, secret, err := w.secret(c.Text("SecretId"))
		if err != nil {
			return nil, err
		}
		secret.Value, secret.Changed = c.Text("SecretString"), w.Now()
		return object{"ARN": secret.ARN, "Name": name, "VersionId": "2"}, nil
	},
})

var _ = register("monitoring", map[string]Handler{
	"DescribeAlarms": func(w *World, c Call) (any, error) {
		all := []object{}
		for _, alarm := range w.Alarms {
			if strings.HasPrefix(alarm.Name, c.Text("AlarmNamePrefix")) {
				all = append(all, object{"AlarmName": alarm.Name, "StateValue": alarm.State, "StateReason": alarm.Reason})
			}
		}
		return object{"MetricAlarms": all}, nil
	},
})

var _ = register("servicequotas", map[string]Handler{
	"GetServiceQuota": func(w *World, c Call) (any, error) {
		value, found := w.Quotas[c.Text("QuotaCode")]
		if !found {
			return nil, &Fault{400, "NoSuchResourceException", "The request failed because the specified quota does not exist."}
		}
		return object{"Quota": object{"QuotaCode": c.Text("QuotaCode"), "Value": value}}, nil
	},
})

var _ = register("ec2", map[string]Handler{
	"DescribeVpcs": func(w *World, c Call) (any, error) {
		all := []object{}
		for _, vpc := range w.VPCs {
			if c.Text("Filter.1.Name") != "is-default" || vpc.Default {
				all = append(all, object{"vpcId": vpc.ID, "isDefault": vpc.Default})
			}
		}
		return object{"vpcSet": all}, nil
	},
})

var _ = register("logs", map[string]Handler{
	"FilterLogEvents": func(w *World, c Call) (any, error) {
		lines, found := w.LogLines[c.Text("logGroupName")]
		if !found {
			return nil, &Fault{400, "ResourceNotFoundException", "The specified log group does not exist."}
		}
		prefix, from := c.Text("logStreamNamePrefix"), 0.0
		if start, is := c.Input["startTime"].(float64); is {
			from = start
		}
		pattern := strings.Trim(c.Text("filterPattern"), `"%`)
		all := []object{}
		for i, line := range lines {
			if strings.HasPrefix(line.Stream, prefix) && strings.Contains(line.Text, pattern) && float64(line.Time.UnixMilli()) >= from {
				all = append(all, object{"logStreamName": line.Stream, "message": line.Text, "timestamp": line.Time.UnixMilli(), "ingestionTime": line.Time.UnixMilli(), "eventId": string(rune('a' + i%26))})
			}
		}
		return object{"events": all}, nil
	},
	"GetLogEvents": func(w *World, c Call) (any, error) {
		all := []object{}
		for _, line := range w.LogLines[c.Text("logGroupName")] {
			if line.Stream == c.Text("logStreamName") {
				all = append(all, object{"message": line.Text, "timestamp": line.Time.UnixMilli(), "ingestionTime": line.Time.UnixMilli()})
			}
		}
		if len(all) == 0 {
			return nil, &Fault{400, "ResourceNotFoundException", "The specified log stream does not exist."}
		}
		const page = 10
		if head, _ := c.Input["startFromHead"].(bool); len(all) > page && head {
			all = all[:page]
		} else if len(all) > page {
			all = all[len(all)-page:]
		}
		return object{"events": all, "nextForwardToken": "f/1", "nextBackwardToken": "b/1"}, nil
	},
})
