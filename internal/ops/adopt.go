package ops

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"berth/internal/cloud"
	"berth/internal/options"
)

// adopted is what a first deployment takes over of what an earlier stack left.
type adopted struct {
	fileSystem string // for the option fileSystemId; empty: none
	named      bool   // repository, log group or vault, which have names: CloudFormation imports them
}

// adopt looks for what the stack of a production left when it was deleted. Elsewhere nothing is kept, and what is in the way all the same
// (half of a deletion) is for CloudFormation to name.
func (d *deployment) adopt(ctx context.Context, parsed options.Options) (taken adopted, err error) {
	if !parsed.Production() {
		return taken, nil
	}
	held, err := d.client.Holds(ctx, d.names)
	if err != nil {
		return taken, err
	}
	if len(held.Secrets) > 0 {
		return taken, &cloud.Error{
			What: fmt.Sprintf("the secret %s is there already, and CloudFormation does not take over secrets", held.Secrets[0]),
			Next: fmt.Sprintf("if nobody needs it, delete it: `aws secretsmanager delete-secret --secret-id %s --force-delete-without-recovery%s`; then the same command again", held.Secrets[0], d.client.RegionFlag()),
		}
	}
	if parsed.FileSystemID == "" {
		switch found := held.FileSystems; len(found) {
		case 0:
		case 1:
			taken.fileSystem = found[0].ID
		default:
			return taken, &cloud.Error{
				What: fmt.Sprintf("earlier stacks of %s left %d file systems, among them %s and %s", d.names.Stack(), len(found), found[0].ID, found[1].ID),
				Next: "name the one to go on with: -c fileSystemId=" + found[0].ID,
			}
		}
	}
	taken.named = held.Repository || held.LogGroup || held.Vault
	things := []string{}
	for what, there := range map[string]bool{
		"the file system " + taken.fileSystem: taken.fileSystem != "", "the image repository": held.Repository, "the log group": held.LogGroup, "the backup vault": held.Vault,
	} {
		if there {
			things = append(things, what)
		}
	}
	if len(things) > 0 {
		slices.Sort(things)
		d.say("taking over what an earlier stack left: %s", strings.Join(things, ", "))
	}
	return taken, nil
}
