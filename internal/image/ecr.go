package image

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
)

// TokenSource is the one call of ECR's client that is needed.
type TokenSource interface {
	GetAuthorizationToken(context.Context, *ecr.GetAuthorizationTokenInput, ...func(*ecr.Options)) (*ecr.GetAuthorizationTokenOutput, error)
}

// ECR logs in to the registry of an AWS account, with a token that lasts twelve hours.
func ECR(client TokenSource) Login {
	return func(ctx context.Context) (user, password string, err error) {
		answer, err := client.GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
		if err != nil {
			return "", "", fmt.Errorf("ask ECR for a token to push with: %w", err)
		}
		if len(answer.AuthorizationData) == 0 || answer.AuthorizationData[0].AuthorizationToken == nil {
			return "", "", errors.New("ECR answered without a token to push with")
		}
		text, err := base64.StdEncoding.DecodeString(*answer.AuthorizationData[0].AuthorizationToken)
		user, password, found := strings.Cut(string(text), ":")
		if err != nil || !found {
			return "", "", errors.New("ECR answered with a token that cannot be read") // the token itself is not shown
		}
		return user, password, nil
	}
}

// loopback says whether an address of a host and a port cannot leave this machine.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	parsed := net.ParseIP(host)
	return host == "localhost" || parsed != nil && parsed.IsLoopback()
}
