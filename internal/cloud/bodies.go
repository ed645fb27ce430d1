package cloud

import (
	"context"
	"io"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// WithPlainBodies is an option of a configuration. It has bodies of requests be read only, and not write themselves: the SDK closes
// a body once there is an answer, and a closed one that is then asked to write itself reports an error (smithy-go 1.28.8), for which
// net/http closes the connection that the answer is still being read from. An answer that comes at once, as on loopback, was lost
// in one of a thousand calls.
func WithPlainBodies(options *config.LoadOptions) error {
	options.APIOptions = append(options.APIOptions, plainBodies)
	return nil
}

func plainBodies(stack *middleware.Stack) error {
	return stack.Build.Add(middleware.BuildMiddlewareFunc("PlainBodies", func(
		ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler,
	) (middleware.BuildOutput, middleware.Metadata, error) {
		if request, is := in.Request.(*smithyhttp.Request); is {
			if body, is := request.GetStream().(io.ReadSeeker); is {
				plain, err := request.SetStream(struct{ io.ReadSeeker }{body})
				if err != nil {
					return middleware.BuildOutput{}, middleware.Metadata{}, err
				}
				in.Request = plain
			}
		}
		return next.HandleBuild(ctx, in)
	}), middleware.Before)
}
