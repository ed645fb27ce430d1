package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"berth/internal/api"
	"berth/internal/cloud"
	"berth/internal/contract"
	"berth/internal/options"
)

// DefaultProject is the option projectName's default, which needs no flag.
const DefaultProject = "claude-code"

// Target says which agent a verb is for: the one on this machine, or with Env that of a deployment in AWS.
type Target struct {
	Local   bool   `name:"local" help:"The agent on this machine, which is the default. BERTH_DATA names its volume."`
	Env     string `name:"env" placeholder:"dev|staging|prod" help:"The agent of this environment in AWS."`
	Project string `name:"project" default:"${project}" placeholder:"NAME" help:"With --env: the deployment's project name (${project})."`
	Region  string `name:"region" placeholder:"us-east-1" help:"With --env: the region; without it the environment's or the AWS configuration's."`
}

// inCloud reports whether the target is a deployment in AWS.
func (t Target) inCloud() bool { return t.Env != "" }

// names are the deployment's.
func (t Target) names() contract.Names {
	return contract.Names{Project: cmp.Or(t.Project, DefaultProject), Environment: t.Env}
}

// check says what is wrong with the target.
func (t Target) check() error {
	switch {
	case t.Local && t.inCloud():
		return &UsageError{errors.New("--local and --env name two agents; give one of them")}
	case !t.inCloud() && t.Region != "":
		return &UsageError{errors.New("--region goes with --env, which names a deployment in AWS")}
	case !t.inCloud() && t.Project != "" && t.Project != DefaultProject:
		return &UsageError{errors.New("--project goes with --env, which names a deployment in AWS")}
	case !t.inCloud():
		return nil
	}
	if !slices.Contains(contract.Environments, t.Env) {
		return &UsageError{fmt.Errorf("--env: there is no environment %.80q; use %s", t.Env, strings.Join(contract.Environments, ", "))}
	}
	if _, err := options.Parse(map[string]string{"projectName": t.names().Project, "environment": t.Env}); err != nil {
		return &UsageError{fmt.Errorf("--project: %w", err)}
	}
	if t.Region != "" {
		if _, err := chooseRegion(t.Region, func(string) string { return "" }, ""); err != nil {
			return &UsageError{err}
		}
	}
	return nil
}

// needsEnv is check for a verb that has no use on this machine.
func (t Target) needsEnv(verb string) error {
	if err := t.check(); err != nil || t.inCloud() {
		return err
	}
	return &UsageError{fmt.Errorf("%s is for a deployment in AWS; name it with --env %s", verb, strings.Join(contract.Environments, "|"))}
}

// cloud connects to AWS.
func (t Target) cloud(ctx context.Context) (*cloud.Client, error) {
	return cloud.Connect(ctx, cloud.Options{Region: t.Region})
}

// endpoint finds the agent.
func (t Target) endpoint(stdio Stdio) (api.Endpoint, error) {
	if err := t.check(); err != nil {
		return api.Endpoint{}, err
	}
	if t.inCloud() {
		return api.Endpoint{}, &UsageError{errors.New("this verb reaches the agent on this machine only")}
	}
	data, err := api.LocalData(stdio.Getenv)
	if err != nil {
		return api.Endpoint{}, err
	}
	return api.ReadEndpoint(data)
}

// connect finds the agent. It sends nothing to it yet. Whoever asks for a client closes it.
func (t Target) connect(ctx context.Context, stdio Stdio) (*api.Client, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	if t.inCloud() {
		return t.reach(ctx)
	}
	endpoint, err := t.endpoint(stdio)
	if err != nil {
		return nil, err
	}
	return api.NewClient(endpoint), nil
}

// wholeID is what a session's id looks like.
var wholeID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// findSession finds a session by its id or by a part of it from either end that no other one has; without an id
// it is the newest.
func (t Target) findSession(ctx context.Context, client *api.Client, given *string) (*api.Session, error) {
	id := ""
	if given != nil {
		id = strings.ToLower(*given)
	}
	if wholeID.MatchString(id) {
		return client.Session(ctx, id)
	}
	query := api.ListQuery{IDPart: id, Newest: true, Limit: 2} // a third one would say no more
	if given == nil {
		query.Limit = 1
	}
	page, err := client.List(ctx, query)
	if err != nil {
		return nil, err
	}
	switch found := page.Sessions; {
	case len(found) == 0 && given == nil:
		return nil, fmt.Errorf("there is no session yet; start one with `berth run%s`", t.flags())
	case len(found) == 0:
		return nil, fmt.Errorf("there is no session %.80q; `berth ps --all%s` lists those that there are", id, t.flags())
	case len(found) == 1 || given == nil:
		return &found[0], nil
	default:
		return nil, &UsageError{fmt.Errorf("several sessions have an id like %q, among them %s and %s; give more of it", id, found[0].ID, found[1].ID)}
	}
}

// connected finds the agent and a session of it. An empty id is an unset variable of a script, which does not
// mean the newest session.
func (t Target) connected(ctx context.Context, stdio Stdio, id *string) (*api.Client, *api.Session, error) {
	if id != nil && strings.TrimSpace(*id) == "" {
		return nil, nil, &UsageError{errors.New("the session's id is empty; `berth ps` lists the sessions")}
	}
	client, err := t.connect(ctx, stdio)
	if err != nil {
		return nil, nil, err
	}
	session, err := t.findSession(ctx, client, id)
	if err != nil {
		client.Close()
		return nil, nil, err
	}
	return client, session, nil
}
