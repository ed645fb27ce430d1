package ops

import (
	"fmt"
	"slices"
	"strings"
)

// regions of the partition "aws", as the AWS SDK for Python lists them (botocore 1.43.106,
// data/partitions.json).
var regions = []string{
	"af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3",
	"ap-south-1", "ap-south-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4",
	"ap-southeast-5", "ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1", "eu-central-1",
	"eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3",
	"il-central-1", "me-central-1", "me-south-1", "mx-central-1", "sa-east-1", "us-east-1", "us-east-2",
	"us-west-1", "us-west-2",
}

// chooseRegion returns the region of the flag, else of the environment as the AWS tools read it, else
// fallback. One that AWS does not have is an error, and the caller's.
func chooseRegion(flag string, getenv func(string) string, fallback string) (string, error) {
	region, origin := flag, "--region"
	for _, variable := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if region == "" {
			region, origin = getenv(variable), variable
		}
	}
	if region == "" {
		return fallback, nil
	}
	if !slices.Contains(regions, region) {
		return "", fmt.Errorf("%s: %q is not a region; use one of %s", origin, region, strings.Join(regions, ", "))
	}
	return region, nil
}
