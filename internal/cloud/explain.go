package cloud

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Kinds of failure, for errors.Is.
var (
	ErrNoRegion      = errors.New("no region")
	ErrNoCredentials = errors.New("no credentials")
	ErrExpired       = errors.New("expired credentials")
	ErrDenied        = errors.New("access denied")
	ErrThrottled     = errors.New("throttled")
	ErrNetwork       = errors.New("network")
	ErrNoStack       = errors.New("no stack")
)

// Error is a failure as a person is told of it: what failed, and the next thing to do.
type Error struct {
	What, Next string
	Cause      error
}

func (e *Error) Error() string {
	if e.Next == "" {
		return e.What
	}
	return e.What + "; " + e.Next
}

func (e *Error) Unwrap() error { return e.Cause }

// kind marks a cause as one of the kinds.
func kind(which, cause error) error { return fmt.Errorf("%w: %w", which, cause) }

// Explain turns an error of an AWS call into one line that says what failed and what to do next. An error that is none, or that
// is explained already, or an interruption, stays what it is.
func Explain(err error) error {
	var explained *Error
	switch {
	case err == nil || errors.As(err, &explained):
		return err
	case errors.Is(err, context.Canceled):
		return context.Canceled // which says that the user did it; the SDK's words would not
	}
	if profile := new(config.SharedConfigProfileNotExistError); errors.As(err, profile) {
		return &Error{fmt.Sprintf("there is no AWS profile %q", profile.Profile), "`aws configure list-profiles` lists those that there are; set AWS_PROFILE to one", kind(ErrNoCredentials, err)}
	}
	call := called(err)
	var api smithy.APIError
	if errors.As(err, &api) {
		return explainCode(err, api, call)
	}
	var status *smithyhttp.ResponseError
	if errors.As(err, &status) && status.Response != nil && status.HTTPStatusCode() > 0 {
		return &Error{fmt.Sprintf("AWS answered %s with status %d", call, status.HTTPStatusCode()), "try again in a minute; https://health.aws.amazon.com tells of outages", err}
	}
	var send *smithyhttp.RequestSendError
	var network net.Error
	if errors.As(err, &send) || errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) {
		return &Error{"AWS cannot be reached (" + call + "): " + innermost(err), "check the network" + endpointHint() + ", and run the same command again", kind(ErrNetwork, err)}
	}
	if call == "AWS" {
		return err
	}
	return &Error{"the call " + call + " failed: " + innermost(err), "run the same command again; if it stays, look at https://health.aws.amazon.com", err}
}

// explainCode explains what AWS itself answered.
func explainCode(err error, api smithy.APIError, call string) error {
	said := strings.Join(strings.Fields(api.ErrorMessage()), " ")
	_, code, qualified := strings.Cut(api.ErrorCode(), "#") // one of the protocols puts a namespace before it
	if !qualified {
		code = api.ErrorCode()
	}
	switch {
	case oneOf(code, "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"):
		return &Error{"the AWS credentials have expired", "run `aws sso login`, or renew them as you got them, and run the same command again", kind(ErrExpired, err)}
	case oneOf(code, "RequestExpired", "RequestTimeTooSkewed", "InvalidSignatureException", "SignatureDoesNotMatch"):
		return &Error{"AWS does not accept the signature of " + call + " (" + code + ")", "check the secret access key and this machine's clock: `aws sts get-caller-identity`", kind(ErrNoCredentials, err)}
	case oneOf(code, "InvalidClientTokenId", "UnrecognizedClientException", "AuthFailure", "MissingAuthenticationToken", "InvalidAccessKeyId"):
		return &Error{"AWS does not know these credentials (" + code + ")", "set AWS_PROFILE, or run `aws configure` or `aws sso login`", kind(ErrNoCredentials, err)}
	case oneOf(code, "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedException") || strings.Contains(code, "NotAuthorized"):
		return &Error{"AWS refuses " + call + ": " + denial(said), "allow that action to the identity that `aws sts get-caller-identity` names, or use another AWS_PROFILE", kind(ErrDenied, err)}
	case strings.Contains(code, "Throttl") || oneOf(code, "TooManyRequestsException", "RequestLimitExceeded", "SlowDown", "PriorRequestNotComplete"):
		return &Error{"AWS throttles " + call + ", and went on to do so when it was tried again", "wait a minute, and run the same command again", kind(ErrThrottled, err)}
	default:
		return &Error{"AWS answered " + call + " with " + code + ": " + said, "", err}
	}
}

func oneOf(code string, codes ...string) bool {
	for _, each := range codes {
		if code == each {
			return true
		}
	}
	return false
}

// denial keeps of AWS's text what is not said already; it may be an encoded message of kilobytes.
func denial(said string) string {
	said, _, _ = strings.Cut(said, " Encoded authorization failure message")
	if len(said) > 300 {
		said = said[:300] + "…"
	}
	if said == "" {
		return "access denied"
	}
	return said
}

// prefixes are the names of services in IAM's actions, where they are not the SDK's in lower case.
var prefixes = map[string]string{
	"secrets manager": "secretsmanager", "cloudwatch logs": "logs", "service quotas": "servicequotas", "cost explorer": "ce",
	"efs": "elasticfilesystem", "resource groups tagging api": "tag",
}

// called names the call that failed as IAM's action, such as ecs:DescribeServices.
func called(err error) string {
	var operation *smithy.OperationError
	if !errors.As(err, &operation) {
		return "AWS"
	}
	service := strings.ToLower(operation.Service())
	if prefix, found := prefixes[service]; found {
		service = prefix
	}
	return service + ":" + operation.Operation()
}

// innermost is the end of a chain of errors, which is the part that a person can use.
func innermost(err error) string {
	var send *smithyhttp.RequestSendError
	if errors.As(err, &send) {
		err = send.Err
	}
	var address *url.Error
	if errors.As(err, &address) {
		host := address.URL
		if parsed, bad := url.Parse(address.URL); bad == nil {
			host = parsed.Host
		}
		return host + ": " + address.Err.Error()
	}
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}

func endpointHint() string {
	if os.Getenv("AWS_ENDPOINT_URL") != "" {
		return " and AWS_ENDPOINT_URL"
	}
	return ""
}

func noCredentials(err error) error {
	return &Error{"no AWS credentials were found", "run `aws configure` or `aws sso login`, or set AWS_PROFILE", kind(ErrNoCredentials, err)}
}

// explainCredentials explains why there are none to sign with.
func explainCredentials(err error) error {
	var sso *ssocreds.InvalidTokenError
	var api smithy.APIError
	switch {
	case errors.As(err, &sso):
		return &Error{"the AWS single sign-on session has ended", "run `aws sso login`, and the same command again", kind(ErrExpired, err)}
	case errors.As(err, &api) && !strings.Contains(err.Error(), "EC2 IMDS"):
		return Explain(err)
	case errors.Is(err, context.Canceled):
		return err
	}
	return noCredentials(err)
}
