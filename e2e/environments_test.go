//go:build e2e

package e2e

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Three environments in one account have nothing in common but the network, and the end of one is no
// concern of the others.
func TestEnvironmentsShareNothing(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	commands := map[string]string{
		"dev":     "cdk deploy -c environment=dev",
		"staging": "cdk deploy -c environment=staging -c cpu=2048 -c memory=8192",
		"prod":    "cdk deploy -c environment=prod -c cpu=4096 -c memory=16384",
	}
	a.must(t, commands["staging"])
	a.must(t, commands["prod"])
	withoutDev := a.inventory(t)
	a.must(t, commands["dev"])

	type use struct{ kind, thing string }
	owner := map[use]string{}
	for _, environment := range slices.Sorted(maps.Keys(commands)) {
		made := a.describe(t, "claude-code-"+environment)
		used := map[use]bool{}
		for id, physical := range made.resources {
			used[use{made.types[id], physical}] = true
		}
		for name, value := range made.outputs {
			used[use{"output " + name, value}] = true
		}
		for each := range used {
			switch each.kind {
			case "output Architecture", "output AssignPublicIp", "output VpcId", "output SubnetIds":
				continue // said of the default VPC and the processor
			}
			if other, taken := owner[each]; taken {
				t.Errorf("%s %s belongs to %s and to %s", each.kind, each.thing, other, environment)
			}
			owner[each] = environment
		}
	}
	if len(owner) < 3*50 {
		t.Errorf("only %d resources and outputs were compared", len(owner))
	}

	// An image does not keep a repository from going, outside production.
	a.ask(t, [][]string{{"ecr", "put-image", "--repository-name", "claude-code-dev", "--image-tag", "latest", "--image-manifest", `{"schemaVersion": 2}`}})
	a.must(t, "cdk destroy --force -c environment=dev")
	if diff := cmp.Diff(withoutDev, a.inventory(t)); diff != "" {
		t.Errorf("what is in the account before dev came and after it went (-before +after):\n%s", diff)
	}
	for environment, cpu := range map[string]string{"staging": "2048", "prod": "4096"} {
		a.check(t, a.describe(t, "claude-code-"+environment), []fact{
			{
				environment + " still is what it was", "ecs describe-task-definition --task-definition ${TaskDefinitionArn}",
				"taskDefinition.[status, cpu, volumes[0].efsVolumeConfiguration.fileSystemId]", `["ACTIVE", "` + cpu + `", "${EfsFileSystemId}"]`,
			},
			{
				environment + " still has its service", "ecs describe-services --cluster ${EcsClusterName} --services ${EcsServiceName}",
				"services[].[status, taskDefinition]", `[["ACTIVE", "${TaskDefinitionArn}"]]`,
			},
		})
	}
}
