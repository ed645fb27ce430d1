package ops

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"berth/internal/api"
)

// Target says which agent a verb is for.
type Target struct {
	Local bool `name:"local" default:"true" help:"The agent on this machine, which is the default. BERTH_DATA names its volume."`
}

// check says what is wrong with the target.
func (t Target) check() error {
	if !t.Local {
		return &UsageError{errors.New("--local=false: there is no other agent than the one on this machine yet")}
	}
	return nil
}

// endpoint finds the agent.
func (t Target) endpoint(stdio Stdio) (api.Endpoint, error) {
	if err := t.check(); err != nil {
		return api.Endpoint{}, err
	}
	data, err := api.LocalData(stdio.Getenv)
	if err != nil {
		return api.Endpoint{}, err
	}
	return api.ReadEndpoint(data)
}

// connect finds the agent. It sends nothing yet.
func (t Target) connect(stdio Stdio) (*api.Client, error) {
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
func findSession(ctx context.Context, client *api.Client, given *string) (*api.Session, error) {
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
		return nil, errors.New("there is no session yet; start one with `berth run`")
	case len(found) == 0:
		return nil, fmt.Errorf("there is no session %.80q; `berth ps --all` lists those that there are", id)
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
	client, err := t.connect(stdio)
	if err != nil {
		return nil, nil, err
	}
	session, err := findSession(ctx, client, id)
	return client, session, err
}
