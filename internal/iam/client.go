package iam

import (
	"context"

	"github.com/aws/smithy-go/middleware"
)

// Client is for the APIOptions of a client of the SDK: of each of its calls
// that AWS refuses, a *Denied is in the error. service begins its actions, such
// as "sqs". resource says of an input which ARN the call is about, for refusals
// that do not; it may be nil, and may answer with nothing: "*" then.
func Client(service string, resource func(input any) string) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		action := service + ":" + stack.ID() // the operation
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("patchbay.Explain",
			func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				out, meta, err := next.HandleInitialize(ctx, in)
				if err == nil {
					return out, meta, nil
				}
				about := ""
				if resource != nil {
					about = resource(in.Parameters)
				}
				return out, meta, Explain(err, action, about)
			}), middleware.Before)
	}
}
