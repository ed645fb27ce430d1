package api

import (
	"context"
	"iter"
)

// Client talks to an agent.
type Client struct {
	endpoint Endpoint
}

// NewClient makes a client of the agent at an endpoint. It sends nothing yet.
func NewClient(endpoint Endpoint) *Client { return &Client{endpoint: endpoint} }

// Status asks how the agent is.
func (c *Client) Status(ctx context.Context) (*Status, error) { panic("TODO") }

// Create hands in a task.
func (c *Client) Create(ctx context.Context, task NewSession) (*Session, error) { panic("TODO") }

// Sessions lists sessions, the oldest first; with states, only those in one of them.
func (c *Client) Sessions(ctx context.Context, states ...State) ([]Session, error) { panic("TODO") }

// Session returns one session.
func (c *Client) Session(ctx context.Context, id string) (*Session, error) { panic("TODO") }

// Send sends a session a message.
func (c *Client) Send(ctx context.Context, id string, message NewMessage) (*Session, error) {
	panic("TODO")
}

// Stop cancels a session. It returns at once; the session's state tells when it has ended.
func (c *Client) Stop(ctx context.Context, id string) (*Session, error) { panic("TODO") }

// Resume takes up an ended session again.
func (c *Client) Resume(ctx context.Context, id string, with Resumption) (*Session, error) {
	panic("TODO")
}

// Diff returns what a session changed.
func (c *Client) Diff(ctx context.Context, id string) (*Diff, error) { panic("TODO") }

// Events returns a session's events from the one with index from on: those that there are, and with
// follow also those that come, until the session has ended and its last event was returned. A lost
// connection is taken up again where it broke off, so that each event comes once; an error ends it.
func (c *Client) Events(ctx context.Context, id string, from int, follow bool) iter.Seq2[Event, error] {
	panic("TODO")
}
