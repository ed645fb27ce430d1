package ops

import (
	"context"
	"fmt"
	"maps"

	"berth/internal/cloud"
	"berth/internal/options"
)

// optionsHelp is what the help of each verb that takes deploy options says of them.
const optionsHelp = `Options (-c) that are not given are those that the stack was deployed with: it records them. NAME=default takes one back to its default.
What cdk.json has under "context" comes before what is recorded, and -c before both.`

// readOptions reads the deploy options of a command line, whose project and environment are the target's. Each is checked for itself: what
// goes together is known when the recorded ones are.
func readOptions(assignments []string, target Target) (given map[string]string, err error) {
	if given, err = options.Assignments(assignments); err != nil {
		return nil, &UsageError{err}
	}
	for name, own := range map[string]string{"projectName": target.names().Project, "environment": target.names().Environment} {
		if value, there := given[name]; there && value != own {
			return nil, &UsageError{fmt.Errorf("-c %s=%s names another deployment than --env and --project, which say %s", name, value, own)}
		}
		given[name] = own
	}
	if err := options.Check(given); err != nil {
		return nil, &UsageError{err}
	}
	return given, nil
}

// options are all options of the deployment: those given, before those of cdk.json, before those that the stack records.
// The first result is what the CDK CLI is to be given.
func (d *deployment) options(ctx context.Context, given map[string]string) (map[string]string, options.Options, error) {
	all := map[string]string{}
	if d.stack != nil {
		template, err := d.client.Template(ctx, d.names)
		if err != nil {
			return nil, options.Options{}, err
		}
		d.template, all = template, template.Options()
	}
	for name := range all {
		if !options.Known(name) {
			return nil, options.Options{}, &cloud.Error{
				What: fmt.Sprintf("stack %s was deployed with the option %.80q, which this berth does not know", d.names.Stack(), name), Next: "use the berth that deployed it, or a newer one",
			}
		}
	}
	project := map[string]any{}
	if d.cdk != nil {
		_, context, err := d.cdk.Project()
		if err != nil {
			return nil, options.Options{}, err
		}
		maps.Copy(project, context)
	}
	for name := range project {
		delete(all, name)
	}
	maps.Copy(all, given)
	for name, value := range all {
		project[name] = value
	}
	parsed, err := options.FromContext(project)
	if err != nil {
		return nil, parsed, &UsageError{err}
	}
	return all, parsed, nil
}
