package cloud

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/efs"
	"github.com/aws/aws-sdk-go-v2/service/efs/types"

	"berth/internal/contract"
)

// FileSystem is an EFS file system.
type FileSystem struct {
	ID, State    string // available, creating, deleting, …
	SizeBytes    int64
	MountTargets int
	Tags         map[string]string
}

// MountTarget is where a file system can be mounted from a subnet.
type MountTarget struct {
	ID, State, Subnet string
	Groups            []string
}

func (c *Client) efs() *efs.Client { return efs.NewFromConfig(c.Config) }

// FileSystem describes a file system; nil if there is none of that id.
func (c *Client) FileSystem(ctx context.Context, id string) (*FileSystem, error) {
	answer, err := c.efs().DescribeFileSystems(ctx, &efs.DescribeFileSystemsInput{FileSystemId: &id})
	if gone(err) || err == nil && len(answer.FileSystems) == 0 {
		return nil, nil //nolint:nilnil // said above
	}
	if err != nil {
		return nil, Explain(err)
	}
	return toFileSystem(&answer.FileSystems[0]), nil
}

// FileSystems lists the file systems that have a deployment's tags; there need be no stack.
func (c *Client) FileSystems(ctx context.Context, names contract.Names) (found []*FileSystem, err error) {
	tags := map[string]string{contract.TagProject: names.Project, contract.TagEnvironment: names.Environment, contract.TagManagedBy: contract.ManagedBy}
	pages := efs.NewDescribeFileSystemsPaginator(c.efs(), &efs.DescribeFileSystemsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, Explain(err)
		}
		for i := range page.FileSystems {
			each := toFileSystem(&page.FileSystems[i])
			has := true
			for key, value := range tags {
				has = has && each.Tags[key] == value
			}
			if has && each.State != string(types.LifeCycleStateDeleting) && each.State != string(types.LifeCycleStateDeleted) {
				found = append(found, each)
			}
		}
	}
	return found, nil
}

func toFileSystem(from *types.FileSystemDescription) *FileSystem {
	made := &FileSystem{ID: aws.ToString(from.FileSystemId), State: string(from.LifeCycleState), MountTargets: int(from.NumberOfMountTargets), Tags: map[string]string{}}
	if from.SizeInBytes != nil {
		made.SizeBytes = from.SizeInBytes.Value
	}
	for _, tag := range from.Tags {
		made.Tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return made
}

// MountTargets lists a file system's, with the security groups that guard them.
func (c *Client) MountTargets(ctx context.Context, fileSystem string) (found []MountTarget, err error) {
	pages := efs.NewDescribeMountTargetsPaginator(c.efs(), &efs.DescribeMountTargetsInput{FileSystemId: &fileSystem})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if gone(err) {
			return nil, nil
		}
		if err != nil {
			return nil, Explain(err)
		}
		for _, each := range page.MountTargets {
			target := MountTarget{ID: aws.ToString(each.MountTargetId), State: string(each.LifeCycleState), Subnet: aws.ToString(each.SubnetId)}
			groups, err := c.efs().DescribeMountTargetSecurityGroups(ctx, &efs.DescribeMountTargetSecurityGroupsInput{MountTargetId: each.MountTargetId})
			wrongState := new(types.IncorrectMountTargetState)
			switch {
			case gone(err):
				continue
			case errors.As(err, &wrongState): // it is being made, or deleted
			case err != nil:
				return nil, Explain(err)
			default:
				target.Groups = groups.SecurityGroups
			}
			found = append(found, target)
		}
	}
	return found, nil
}

// Mount gives a file system a mount target.
func (c *Client) Mount(ctx context.Context, fileSystem, subnet string, groups []string) (id string, err error) {
	answer, err := c.efs().CreateMountTarget(ctx, &efs.CreateMountTargetInput{FileSystemId: &fileSystem, SubnetId: &subnet, SecurityGroups: groups})
	if err != nil {
		return "", Explain(err)
	}
	return aws.ToString(answer.MountTargetId), nil
}

// Unmount takes a mount target away; one that is not there is away already.
func (c *Client) Unmount(ctx context.Context, target string) error {
	if _, err := c.efs().DeleteMountTarget(ctx, &efs.DeleteMountTargetInput{MountTargetId: &target}); err != nil && !gone(err) {
		return Explain(err)
	}
	return nil
}

// DeleteFileSystem deletes a file system that has no mount target; one that is not there is deleted already. inUse: EFS still counts a mount
// target that it has just deleted, and is to be asked again.
func (c *Client) DeleteFileSystem(ctx context.Context, id string) (inUse bool, err error) {
	_, err = c.efs().DeleteFileSystem(ctx, &efs.DeleteFileSystemInput{FileSystemId: &id})
	if used := new(types.FileSystemInUse); errors.As(err, &used) {
		return true, Explain(err)
	}
	if gone(err) {
		return false, nil
	}
	return false, Explain(err)
}

// CopyPolicy gives a file system the policy and the tags of another one.
func (c *Client) CopyPolicy(ctx context.Context, from, to string) error {
	original, err := c.FileSystem(ctx, from)
	if err != nil {
		return err
	}
	if original != nil && len(original.Tags) > 0 {
		var tags []types.Tag
		for _, key := range slices.Sorted(maps.Keys(original.Tags)) {
			if len(key) < 4 || key[:4] != "aws:" {
				tags = append(tags, types.Tag{Key: aws.String(key), Value: aws.String(original.Tags[key])})
			}
		}
		if _, err := c.efs().TagResource(ctx, &efs.TagResourceInput{ResourceId: &to, Tags: tags}); err != nil {
			return Explain(err)
		}
	}
	policy, err := c.efs().DescribeFileSystemPolicy(ctx, &efs.DescribeFileSystemPolicyInput{FileSystemId: &from})
	if missing := new(types.PolicyNotFound); errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return Explain(err)
	}
	_, err = c.efs().PutFileSystemPolicy(ctx, &efs.PutFileSystemPolicyInput{FileSystemId: &to, Policy: policy.Policy})
	return Explain(err)
}

// gone reports whether an error says that what was asked for is not there.
func gone(err error) bool {
	var fileSystem *types.FileSystemNotFound
	var target *types.MountTargetNotFound
	return errors.As(err, &fileSystem) || errors.As(err, &target)
}
