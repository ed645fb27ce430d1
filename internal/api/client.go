package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Client talks to an agent.
type Client struct {
	endpoint Endpoint
	http     *http.Client
	retry    retry
	through  *Through // nil for an agent on this machine
}

// Through says how to reach an agent that is on another machine.
type Through struct {
	// Dial makes a connection to the agent's port. An error that is a *FinalError is returned as what it holds; after
	// any other one another attempt may succeed.
	Dial func(context.Context) (net.Conn, error)
	// Close ends what Dial needs.
	Close func()
	// Patience is how long followers go on without a connection: a task that is replaced takes minutes.
	Patience time.Duration
	Where    string // the agent, as "in claude-code-dev"
	Next     string // what to do where it cannot be reached
	Refused  string // what to do where it does not take the token
}

// FinalError is an error of Through.Dial after which no other attempt is of use.
type FinalError struct{ Err error }

func (e *FinalError) Error() string { return e.Err.Error() }
func (e *FinalError) Unwrap() error { return e.Err }

const (
	// answerTime is how long an answer may take. A diff of a large repository is the slowest.
	answerTime = 5 * time.Minute

	// maxAnswer is the size in bytes of the largest answer that is read.
	maxAnswer = 256 << 20
)

// NewClient makes a client of the agent at an endpoint. It sends nothing yet.
func NewClient(endpoint Endpoint) *Client {
	endpoint.URL = strings.TrimRight(endpoint.URL, "/")
	return &Client{
		endpoint: endpoint,
		http: &http.Client{
			// The agent is on loopback: a proxy could not reach it, and would see the token.
			Transport: &http.Transport{
				Proxy:           nil,
				DialContext:     (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
				IdleConnTimeout: 30 * time.Second,
			},
			// A redirect would carry the token somewhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		retry: defaultRetry,
	}
}

// NewClientThrough makes a client of an agent that is reached some other way. Its endpoint names what the agent listens at.
func NewClientThrough(endpoint Endpoint, through Through) *Client {
	c := NewClient(endpoint)
	c.through = &through
	c.retry.giveUp = through.Patience
	c.http.Transport = &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return through.Dial(ctx) },
		IdleConnTimeout: 30 * time.Second,
	}
	return c
}

// Close gives back what the client holds. There is no need to wait for answers that are not read.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	if c.through != nil && c.through.Close != nil {
		c.through.Close()
	}
}

// Endpoint is what the client was made with.
func (c *Client) Endpoint() Endpoint { return c.endpoint }

// Dial makes a connection to the agent's port. Its errors are those of a request.
func (c *Client) Dial(ctx context.Context) (net.Conn, error) {
	if c.through == nil {
		return nil, errors.ErrUnsupported
	}
	connection, err := c.through.Dial(ctx)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	return connection, nil
}

// StatusError is what the agent answered when it refused a request. It wraps the Error of the answer.
type StatusError struct {
	Status int // of HTTP
	Err    *Error
}

func (e *StatusError) Error() string { return e.Err.Error() }

func (e *StatusError) Unwrap() error { return e.Err }

// Healthy asks whether the agent answers at all, and nothing that takes it time.
func (c *Client) Healthy(ctx context.Context) error {
	_, err := c.answer(ctx, http.MethodGet, "/healthz", nil)
	return err
}

// Status asks how the agent is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// Create hands in a task.
func (c *Client) Create(ctx context.Context, task NewSession) (*Session, error) {
	return call[Session](ctx, c, http.MethodPost, "/v1/sessions", task)
}

// CreateOnce hands in a task under a key: with the same key and task again, the answer is the session that is there.
func (c *Client) CreateOnce(ctx context.Context, task NewSession, key string) (*Session, error) {
	return call[Session](ctx, c, http.MethodPost, "/v1/sessions", task, "Idempotency-Key", key)
}

// pageSize is how many sessions are asked for at once.
const pageSize = 500

// Sessions lists all sessions, the oldest first; with states, only those in one of them.
func (c *Client) Sessions(ctx context.Context, states ...State) ([]Session, error) {
	return c.Collect(ctx, ListQuery{States: states})
}

// Collect lists sessions over as many pages as it takes. The query's limit is the most of them in all.
func (c *Client) Collect(ctx context.Context, query ListQuery) ([]Session, error) {
	all, most := []Session{}, query.Limit
	for {
		query.Limit = pageSize
		if most > 0 {
			query.Limit = min(pageSize, most-len(all))
		}
		page, err := c.List(ctx, query)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Sessions...)
		if query.After = page.Next; page.Next == "" || most > 0 && len(all) >= most {
			return all, nil
		}
	}
}

// List lists sessions, a page at a time.
func (c *Client) List(ctx context.Context, query ListQuery) (*SessionList, error) {
	values := url.Values{}
	for _, state := range query.States {
		values.Add("state", string(state))
	}
	for name, value := range map[string]string{"id": query.IDPart, "repo": query.Repo, "after": query.After} {
		if value != "" {
			values.Set(name, value)
		}
	}
	for name, value := range map[string]time.Time{"created_after": query.CreatedAfter, "created_before": query.CreatedBefore} {
		if !value.IsZero() {
			values.Set(name, value.Format(time.RFC3339Nano))
		}
	}
	if query.Newest {
		values.Set("order", "newest")
	}
	if query.Limit > 0 {
		values.Set("limit", strconv.Itoa(query.Limit))
	}
	path := "/v1/sessions"
	if len(values) > 0 {
		path += "?" + values.Encode()
	}
	return call[SessionList](ctx, c, http.MethodGet, path, nil)
}

// Spend tells what was spent on the model.
func (c *Client) Spend(ctx context.Context) (*SpendReport, error) {
	return call[SpendReport](ctx, c, http.MethodGet, "/v1/spend", nil)
}

// Bundle writes a git bundle with a session's work, as of its last checkpoint: with what its origin lacks, or all of it.
func (c *Client) Bundle(ctx context.Context, id string, full bool, to io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	path := sessionPath(id, "/bundle")
	if full {
		path += "?full=true"
	}
	request, err := c.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	response, err := c.do(request)
	if err != nil {
		return err
	}
	defer closeBody(response)
	if _, err := io.Copy(to, response.Body); err != nil {
		return fmt.Errorf("the bundle of session %s broke off: %w; try again", id, err)
	}
	return nil
}

// Session returns one session.
func (c *Client) Session(ctx context.Context, id string) (*Session, error) {
	return call[Session](ctx, c, http.MethodGet, sessionPath(id, ""), nil)
}

// Send sends a session a message.
func (c *Client) Send(ctx context.Context, id string, message NewMessage) (*Session, error) {
	return call[Session](ctx, c, http.MethodPost, sessionPath(id, "/messages"), message)
}

// Stop cancels a session. It returns at once; the session's state tells when it has ended.
func (c *Client) Stop(ctx context.Context, id string) (*Session, error) {
	return call[Session](ctx, c, http.MethodPost, sessionPath(id, "/stop"), nil)
}

// Resume takes up an ended session again.
func (c *Client) Resume(ctx context.Context, id string, with Resumption) (*Session, error) {
	return call[Session](ctx, c, http.MethodPost, sessionPath(id, "/resume"), with)
}

// Diff returns what a session changed.
func (c *Client) Diff(ctx context.Context, id string) (*Diff, error) {
	return call[Diff](ctx, c, http.MethodGet, sessionPath(id, "/diff"), nil)
}

// Patch returns what a session changed, byte for byte: in JSON, bytes that are not UTF-8 would be lost.
func (c *Client) Patch(ctx context.Context, id string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return c.answer(ctx, http.MethodGet, sessionPath(id, "/diff?format=patch"), nil)
}

// sessionPath is the path of a session or of what is below it. The id may be anything that a person typed.
func sessionPath(id, rest string) string {
	return "/v1/sessions/" + url.PathEscape(id) + rest
}

// call sends a request, with body as JSON unless it is nil and pairs of further header fields, and decodes the answer.
func call[T any](ctx context.Context, c *Client, method, path string, body any, header ...string) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	text, err := c.answer(ctx, method, path, body, header...)
	if err != nil {
		return nil, err
	}
	answer := new(T)
	if err := json.Unmarshal(text, answer); err != nil {
		return nil, fmt.Errorf("the agent's answer to %s %s is not what its API describes: %w; are berth and berthd of the same version?", method, path, err)
	}
	return answer, nil
}

// answer sends a request, with body as JSON unless it is nil, and reads the whole answer.
func (c *Client) answer(ctx context.Context, method, path string, body any, header ...string) ([]byte, error) {
	request, err := c.request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	for pair := range slices.Chunk(header, 2) {
		request.Header.Set(pair[0], pair[1])
	}
	response, err := c.do(request)
	if err != nil {
		return nil, err
	}
	defer closeBody(response)
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, c.unreachable(ctx, fmt.Errorf("the answer to %s %s broke off: %w", method, path, err))
	}
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("the agent's answer to %s %s is over %d MiB", method, path, maxAnswer>>20)
	}
	return text, nil
}

// request makes a request that carries the token.
func (c *Client) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("cannot say this in JSON: %w", err)
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.endpoint.URL+path, reader)
	if err != nil {
		return nil, fmt.Errorf("%w: its address %q is not a URL: %w", ErrUnreachable, c.endpoint.URL, err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("Authorization", "Bearer "+c.endpoint.Token)
	return request, nil
}

// do sends a request. An answer other than 2xx becomes an error: a *StatusError if it is the agent's.
func (c *Client) do(request *http.Request) (*http.Response, error) {
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(request.Context(), err)
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer closeBody(response)
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	refusal := new(Error)
	if err != nil || json.Unmarshal(text, refusal) != nil || refusal.Code == "" {
		return nil, fmt.Errorf("what answers at %s is not an agent: it says %s to %s %s; look at the address", c.endpoint.URL, response.Status, request.Method, request.URL.Path)
	}
	if c.through != nil && refusal.Code == CodeUnauthorized {
		return nil, errors.New("the agent " + c.through.Where + " does not take the token: " + c.through.Refused)
	}
	return nil, &StatusError{Status: response.StatusCode, Err: refusal}
}

// unreachable says that no agent answers, unless the request was called off.
func (c *Client) unreachable(ctx context.Context, cause error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	// These name the address once more.
	if outer := new(url.Error); errors.As(cause, &outer) {
		cause = outer.Err
	}
	if final := new(FinalError); errors.As(cause, &final) {
		return final.Err
	}
	if c.through != nil {
		return c.through.lost(cause)
	}
	if outer := new(net.OpError); errors.As(cause, &outer) {
		cause = outer.Err
	}
	return fmt.Errorf("%w at %s: %w; `berth up` starts it", ErrUnreachable, c.endpoint.URL, cause)
}

// lost says that the agent is not reached.
func (t *Through) lost(cause error) error {
	if strings.Contains(cause.Error(), "`") { // it says itself what to do
		return fmt.Errorf("%w %s: %w", ErrUnreachable, t.Where, cause)
	}
	return fmt.Errorf("%w %s: %w; %s", ErrUnreachable, t.Where, cause, t.Next)
}

// closeBody gives the connection back. What is wrong with a body that nobody reads on does not matter.
func closeBody(response *http.Response) { _ = response.Body.Close() }
