package cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"

	"berth/internal/contract"
)

// Stack is a deployed stack as CloudFormation describes it.
type Stack struct {
	Names      contract.Names
	ID         string
	Status     string // such as CREATE_COMPLETE
	Reason     string // of the status, if CloudFormation gives one
	Created    time.Time
	Updated    time.Time // zero: never
	Parameters map[string]string
	Outputs    map[string]string
	Tags       map[string]string
	Protected  bool // against deletion, by termination protection

	asked string // as the client's
}

// Stack describes a stack, whatever its state. The error is ErrNoStack if there is none.
func (c *Client) Stack(ctx context.Context, names contract.Names) (*Stack, error) {
	answer, err := c.CloudFormation.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(names.Stack())})
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "ValidationError" && strings.Contains(api.ErrorMessage(), "does not exist") || err == nil && len(answer.Stacks) == 0 {
		return nil, &Error{
			What:  fmt.Sprintf("there is no stack %s in %s", names.Stack(), c.Region),
			Next:  "`berth up " + c.Flags(names) + "` makes one, `berth env list" + c.RegionFlag() + "` shows those that there are",
			Cause: ErrNoStack,
		}
	}
	if err != nil {
		return nil, Explain(err)
	}
	return c.toStack(names, &answer.Stacks[0]), nil
}

// Flags are the flags that name a deployment in a command. The region is the one that was asked for with such a flag; empty: none was.
func Flags(names contract.Names, region string) string {
	flags := "--env " + names.Environment
	if names.Project != "claude-code" {
		flags += " --project " + names.Project
	}
	return flags + regionFlag(region)
}

func regionFlag(region string) string {
	if region == "" {
		return ""
	}
	return " --region " + region
}

// Flags are the flags that name a deployment in a command that is suggested.
func (c *Client) Flags(names contract.Names) string { return Flags(names, c.asked) }

// RegionFlag is what a suggested command needs beside its other flags, one of the aws CLI's too: a blank and --region, where the region
// was asked for with that flag; else nothing.
func (c *Client) RegionFlag() string { return regionFlag(c.asked) }

// Flags are the flags that name this deployment in a command that is suggested.
func (s *Stack) Flags() string { return Flags(s.Names, s.asked) }

func (c *Client) toStack(names contract.Names, from *types.Stack) *Stack {
	s := &Stack{
		asked: c.asked, Names: names, ID: aws.ToString(from.StackId), Status: string(from.StackStatus), Reason: aws.ToString(from.StackStatusReason),
		Created: aws.ToTime(from.CreationTime), Updated: aws.ToTime(from.LastUpdatedTime),
		Parameters: map[string]string{}, Outputs: map[string]string{}, Tags: map[string]string{}, Protected: aws.ToBool(from.EnableTerminationProtection),
	}
	for _, each := range from.Parameters {
		s.Parameters[aws.ToString(each.ParameterKey)] = aws.ToString(each.ParameterValue)
	}
	for _, each := range from.Outputs {
		s.Outputs[aws.ToString(each.OutputKey)] = aws.ToString(each.OutputValue)
	}
	for _, each := range from.Tags {
		s.Tags[aws.ToString(each.Key)] = aws.ToString(each.Value)
	}
	return s
}

// Stacks lists the stacks of this region that berth made, by their tags, the oldest first.
func (c *Client) Stacks(ctx context.Context) ([]*Stack, error) {
	var found []*Stack
	pages := cloudformation.NewDescribeStacksPaginator(c.CloudFormation, &cloudformation.DescribeStacksInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, Explain(err)
		}
		for i := range page.Stacks {
			stack := c.toStack(contract.Names{}, &page.Stacks[i])
			stack.Names = contract.Names{Project: stack.Tags[contract.TagProject], Environment: stack.Tags[contract.TagEnvironment]}
			if stack.Tags[contract.TagManagedBy] == contract.ManagedBy && stack.Names.Stack() == aws.ToString(page.Stacks[i].StackName) {
				found = append(found, stack)
			}
		}
	}
	slices.SortFunc(found, func(a, b *Stack) int { return a.Created.Compare(b.Created) })
	return found, nil
}

// InProgress reports whether CloudFormation is at work on the stack.
func (s *Stack) InProgress() bool {
	return strings.HasSuffix(s.Status, "_IN_PROGRESS") && !s.InReview()
}

// InReview reports whether there is nothing yet but a change set that would make the stack.
func (s *Stack) InReview() bool { return s.Status == "REVIEW_IN_PROGRESS" }

// Healthy reports whether the stack can be used; while CloudFormation cleans up after an update, it cannot be updated yet.
func (s *Stack) Healthy() bool {
	return slices.Contains([]string{"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"}, s.Status)
}

// Problem says what stands in the way of updating the stack, and the call that takes it away; nil if nothing does.
func (s *Stack) Problem() error {
	name := s.Names.Stack()
	named := name + regionFlag(s.asked)
	what := fmt.Sprintf("stack %s is in %s", name, s.Status)
	if s.Reason != "" {
		what += " (" + strings.Join(strings.Fields(s.Reason), " ") + ")"
	}
	switch {
	case s.Healthy():
		return nil
	case s.Status == "ROLLBACK_COMPLETE", s.Status == "ROLLBACK_FAILED", s.Status == "CREATE_FAILED":
		return &Error{What: what + ": its first deployment failed, and it can only be deleted", Next: fmt.Sprintf("`berth down %s`, then `berth up %s`", s.Flags(), s.Flags())}
	case s.Status == "UPDATE_ROLLBACK_FAILED":
		return &Error{What: what, Next: fmt.Sprintf("`aws cloudformation continue-update-rollback --stack-name %s`, then the same command again", named)}
	case s.Status == "UPDATE_FAILED":
		return &Error{What: what, Next: fmt.Sprintf("`aws cloudformation rollback-stack --stack-name %s`, then the same command again", named)}
	case s.Status == "DELETE_FAILED":
		return &Error{What: what, Next: fmt.Sprintf("`berth down %s` deletes what is left, in the order that works", s.Flags())}
	case s.InReview():
		return &Error{What: what + ": a change set was made and not executed, and nothing is deployed", Next: fmt.Sprintf("`berth up %s` goes on", s.Flags())}
	case s.InProgress():
		return &Error{What: what + ": somebody is at work on it", Next: fmt.Sprintf("wait for `aws cloudformation describe-stacks --stack-name %s` to show another state, then run the same command again", named)}
	}
	return &Error{What: what, Next: "look at it in the CloudFormation console"}
}

// Usable returns the stack if it can be worked with, and else says why not.
func (c *Client) Usable(ctx context.Context, names contract.Names) (*Stack, error) {
	stack, err := c.Stack(ctx, names)
	if err == nil {
		err = stack.Problem()
	}
	return stack, err
}

// Template is a stack's template as it was sent.
type Template map[string]any

// Options are the deploy options that the template was made with, as far as they are not their defaults.
func (t Template) Options() map[string]string {
	found := map[string]string{}
	metadata, _ := t["Metadata"].(map[string]any)
	recorded, _ := metadata[contract.MetadataOptions].(map[string]any)
	for name, value := range recorded {
		found[name] = fmt.Sprint(value)
	}
	return found
}

// effective is the template without what CloudFormation does not look at.
func (t Template) effective() Template {
	without := maps.Clone(t)
	delete(without, "Metadata")
	return without
}

// Template is the deployed template.
func (c *Client) Template(ctx context.Context, names contract.Names) (Template, error) {
	answer, err := c.CloudFormation.GetTemplate(ctx, &cloudformation.GetTemplateInput{
		StackName: aws.String(names.Stack()), TemplateStage: types.TemplateStageOriginal,
	})
	if err != nil {
		return nil, Explain(err)
	}
	template, err := parseTemplate(aws.ToString(answer.TemplateBody))
	if err != nil {
		return nil, &Error{
			What: fmt.Sprintf("the deployed template of %s cannot be read: %v", names.Stack(), err), Next: "`npx cdk deploy` with all of its options writes it anew", Cause: err,
		}
	}
	return template, nil
}

// FirstFailure is the event that failed first since a time: what made CloudFormation give up. Empty if there is none.
func (c *Client) FirstFailure(ctx context.Context, names contract.Names, since time.Time) (string, error) {
	var first string
	pages := cloudformation.NewDescribeStackEventsPaginator(c.CloudFormation, &cloudformation.DescribeStackEventsInput{StackName: aws.String(names.Stack())})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return first, Explain(err)
		}
		for _, event := range page.StackEvents { // the newest first
			if aws.ToTime(event.Timestamp).Before(since) {
				return first, nil
			}
			status, reason := string(event.ResourceStatus), aws.ToString(event.ResourceStatusReason)
			if strings.HasSuffix(status, "_FAILED") && !strings.Contains(reason, "cancelled") {
				first = strings.Join(strings.Fields(fmt.Sprintf("%s %s: %s", aws.ToString(event.LogicalResourceId), status, reason)), " ")
			}
		}
	}
	return first, nil
}
