package workspace

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/go-github/v75/github"
)

// hostOf is the host of an address, with its port if it names one.
func hostOf(from address) string {
	if parsed, err := url.Parse(from.text); err == nil && parsed.Host != "" {
		return parsed.Host
	}
	if parts := scpLike.FindStringSubmatch(from.text); parts != nil {
		return parts[2]
	}
	return ""
}

// onGitHub tells where the API is for a repository, and which one it is there; found is false if it is elsewhere.
func (m *Mirrors) onGitHub(from address) (endpoint *url.URL, owner, name string, found bool) {
	if from.kind == local {
		return nil, "", "", false
	}
	path := ""
	if parts := scpLike.FindStringSubmatch(from.text); parts != nil && !strings.Contains(from.text, "://") {
		path = parts[3]
	} else if parsed, err := url.Parse(from.text); err == nil {
		path = parsed.Path
	}
	words := strings.Split(strings.TrimSuffix(strings.Trim(path, "/"), ".git"), "/")
	if len(words) != 2 {
		return nil, "", "", false
	}
	host := strings.ToLower(hostOf(from))
	if from.kind == ssh {
		host, _, _ = strings.Cut(host, ":")
	}
	text := m.config.GitHubAPI
	if text == "" {
		text = "https://api.github.com/"
	}
	endpoint, err := url.Parse(strings.TrimRight(text, "/") + "/")
	if err != nil {
		return nil, "", "", false
	}
	at := strings.ToLower(endpoint.Host)
	return endpoint, words[0], words[1], host != "" && (at == host || at == "api."+host || from.kind == ssh && endpoint.Hostname() == host)
}

// pullRequest finds the open pull request of the session's branch, or makes one. It returns its address; nothing if the
// origin is not on GitHub, or there is no token for it.
func (r *mirror) pullRequest(ctx context.Context, from address, place Place, request Request) (string, error) {
	endpoint, owner, name, found := r.onGitHub(from)
	if !found || r.config.Credential == nil {
		return "", nil
	}
	if _, token := r.config.Credential(hostOf(from)); token == "" {
		return "", nil
	} else {
		base, err := r.baseBranch(ctx, place.Source.Ref)
		if err != nil {
			return "", err
		}
		client := github.NewClient(nil).WithAuthToken(token)
		client.BaseURL = endpoint
		return open(ctx, client, owner, name, &github.NewPullRequest{
			Title: &request.Title, Body: &request.Body, Head: &place.Branch, Base: &base,
		})
	}
}

func open(ctx context.Context, client *github.Client, owner, name string, wanted *github.NewPullRequest) (string, error) {
	existing, _, err := client.PullRequests.List(ctx, owner, name, &github.PullRequestListOptions{
		State: "open", Head: owner + ":" + *wanted.Head, ListOptions: github.ListOptions{PerPage: 10},
	})
	if err != nil {
		return "", hubSaid(err)
	}
	for _, one := range existing {
		if one.GetHead().GetRef() == *wanted.Head {
			return one.GetHTMLURL(), nil
		}
	}
	made, _, err := client.PullRequests.Create(ctx, owner, name, wanted)
	if err != nil {
		return "", hubSaid(err)
	}
	return made.GetHTMLURL(), nil
}

// hubSaid makes of an error what GitHub said.
func hubSaid(err error) error {
	refused := new(github.ErrorResponse)
	if !errors.As(err, &refused) || refused.Response == nil {
		return fmt.Errorf("GitHub cannot be asked: %w", err)
	}
	said := refused.Message
	for _, one := range refused.Errors {
		if one.Message != "" {
			said += ": " + one.Message
		}
	}
	hint := ""
	switch refused.Response.StatusCode {
	case 401:
		hint = "; give the agent a valid GITHUB_TOKEN"
	case 403, 404:
		hint = "; the token needs the right to write contents and pull requests of this repository"
	}
	return fmt.Errorf("GitHub says %q (%d)%s", said, refused.Response.StatusCode, hint)
}

// baseBranch is the branch that a pull request is for: the one that the session started from, or the default one.
func (r *mirror) baseBranch(ctx context.Context, name string) (string, error) {
	name = strings.TrimPrefix(name, "refs/heads/")
	if name != "" {
		if _, err := r.git().run(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", "refs/heads/"+name); err == nil {
			return name, nil
		}
	}
	head, err := r.git().line(ctx, "symbolic-ref", "--quiet", "--short", "HEAD")
	if err != nil {
		return "", errors.New("the origin has no default branch to make a pull request for")
	}
	return head, nil
}
