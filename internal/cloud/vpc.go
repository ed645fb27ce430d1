package cloud

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
)

// DefaultVPC is the id of the region's default VPC; empty if there is none.
//
// It is a request written by hand: EC2's client is the largest of the SDK, takes minutes to build, and this is the one call of it. It is tried again
// as the SDK tries its own.
func (c *Client) DefaultVPC(ctx context.Context) (string, error) {
	retryer := retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = max(c.Config.RetryMaxAttempts, 1) })
	for attempt := 1; ; attempt++ {
		id, err := c.defaultVPC(ctx)
		if err == nil {
			return id, nil
		}
		explained := Explain(&smithy.OperationError{ServiceID: "EC2", OperationName: "DescribeVpcs", Err: err})
		if attempt >= retryer.MaxAttempts() || !retryer.IsErrorRetryable(err) {
			return "", explained
		}
		delay, err := retryer.RetryDelay(attempt, err)
		if err != nil {
			return "", explained
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func (c *Client) defaultVPC(ctx context.Context) (string, error) {
	body := url.Values{
		"Action": {"DescribeVpcs"}, "Version": {"2016-11-15"}, "Filter.1.Name": {"is-default"}, "Filter.1.Value.1": {"true"},
	}.Encode()
	address := fmt.Sprintf("https://ec2.%s.amazonaws.com/", c.Region)
	for _, variable := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2"} {
		if given := os.Getenv(variable); given != "" {
			address = given
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body)) //nolint:gosec // the address is AWS's, or what the user has in its place
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	credentials, err := c.Config.Credentials.Retrieve(ctx)
	if err != nil {
		return "", explainCredentials(err)
	}
	hash := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(ctx, credentials, request, hex.EncodeToString(hash[:]), "ec2", c.Region, time.Now()); err != nil {
		return "", err
	}
	client := http.Client{Timeout: time.Minute}
	response, err := client.Do(request) //nolint:gosec // as above
	if err != nil {
		return "", err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	const most = 1 << 20
	text, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil {
		return "", err
	}
	var answer struct {
		VPCs   []string `xml:"vpcSet>item>vpcId"`
		Errors []struct {
			Code    string `xml:"Code"`
			Message string `xml:"Message"`
		} `xml:"Errors>Error"`
	}
	if err := xml.Unmarshal(text, &answer); err != nil {
		return "", fmt.Errorf("its answer (status %d) cannot be read: %w", response.StatusCode, err)
	}
	if len(answer.Errors) > 0 {
		return "", &smithy.GenericAPIError{Code: answer.Errors[0].Code, Message: answer.Errors[0].Message}
	}
	if len(answer.VPCs) == 0 {
		return "", nil
	}
	return answer.VPCs[0], nil
}
