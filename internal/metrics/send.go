package metrics

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"berth/internal/contract"
)

const (
	// maxShare bounds the records of a request; it rarely has room for so many.
	maxShare = 5000

	// maxRequests bounds how much of what was kept goes out in a minute, so that it is not throttled again.
	maxRequests = 30

	// sendTime bounds a request, with the SDK's own retries.
	sendTime = 20 * time.Second
)

// trouble is why CloudWatch does not take metrics.
type trouble string

const (
	none        trouble = ""
	throttled   trouble = "CloudWatch throttles metrics"
	denied      trouble = "CloudWatch denies access"
	unreachable trouble = "CloudWatch cannot be reached"
	refused     trouble = "CloudWatch refuses figures" // these figures; it takes others
)

// send sends what is kept, the oldest first.
func (r *Recorder) send(ctx context.Context) {
	if r.spool == nil {
		return
	}
	for range maxRequests {
		records, number := r.spool.first(r.share, r.config.Now())
		if len(records) == 0 {
			return
		}
		b, count := newBatch(), 0
		for count < len(records) && !b.full() {
			b.add(records[count])
			count++
		}
		err := r.put(ctx, b)
		if err != nil && ctx.Err() != nil {
			return // this daemon ends: that says nothing about CloudWatch
		}
		switch kind := classify(err); {
		case kind == refused && count > 1:
			r.share = count / 2 // until the one is found
			continue
		case kind != none:
			r.note(kind, err)
			if kind != refused {
				return
			}
		default:
			r.note(none, nil)
			r.share = min(2*r.share, maxShare)
		}
		r.spool.sent(number, count)
	}
}

// put makes a request of a batch.
func (r *Recorder) put(ctx context.Context, b *batch) error {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	_, err := r.config.Client.PutMetricData(ctx, &cloudwatch.PutMetricDataInput{
		Namespace: aws.String(contract.MetricNamespace), MetricData: b.data(r.config.Environment),
	})
	return err
}

// note says when CloudWatch begins to be in trouble, or in another one, and when it is over.
func (r *Recorder) note(now trouble, err error) {
	if now == r.trouble {
		return
	}
	switch now {
	case none:
		r.config.Logger.Info("CloudWatch takes metrics again", "kept", r.spool.length())
	case refused:
		r.config.Logger.Error(string(now)+", which are dropped", contract.LogFieldError, err)
	case throttled, denied, unreachable:
		r.config.Logger.Warn(string(now)+"; metrics are kept on the volume", contract.LogFieldError, err, "kept", r.spool.length())
	}
	r.trouble = now
}

// deniedCodes and refusedCodes are the API's codes, with and without the ending that some protocols give them
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CommonErrors.html).
var (
	deniedCodes = []string{
		"AccessDenied", "AccessDeniedException", "NotAuthorized", "OptInRequired", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
		"UnrecognizedClientException", "InvalidClientTokenId", "ExpiredToken", "ExpiredTokenException", "RequestExpired",
		"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature", "IncompleteSignatureException",
	}
	refusedCodes = []string{
		"InvalidParameterValue", "InvalidParameterValueException", "InvalidParameterCombination", "InvalidParameterCombinationException",
		"MissingParameter", "MissingRequiredParameterException", "ValidationError", "ValidationException", "RequestEntityTooLarge",
	}
)

// classify tells what an answer means for what is sent next.
func classify(err error) trouble {
	if err == nil {
		return none
	}
	status := 0
	if response := new(smithyhttp.ResponseError); errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	code := ""
	if coded := smithy.APIError(nil); errors.As(err, &coded) {
		code = coded.ErrorCode()
		code = code[strings.LastIndexByte(code, '#')+1:] // the SDK leaves a namespace in front of codes that it does not know
	}
	_, throttling := retry.DefaultThrottleErrorCodes[code]
	switch {
	case throttling || status == http.StatusTooManyRequests:
		return throttled
	case slices.Contains(deniedCodes, code) || status == http.StatusUnauthorized || status == http.StatusForbidden:
		return denied
	case slices.Contains(refusedCodes, code) || status == http.StatusRequestEntityTooLarge:
		return refused
	default:
		return unreachable
	}
}
