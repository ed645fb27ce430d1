package server

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"berth/internal/api"
)

// handlers are the operations of the API.
type handlers struct {
	agent Agent
	log   *slog.Logger
	turns turns
}

// sessionID is the id of a session in the path of a request.
type sessionID string

// Resolve keeps anything from the agent that is not a UUID in its usual form: an id becomes part of file
// names.
func (id sessionID) Resolve(huma.Context) []error {
	if parsed, err := uuid.Parse(string(id)); err != nil || parsed.String() != string(id) {
		return []error{refuse(api.CodeNotFound, "there is no session %.80q: ids are UUIDs like 01890a5d-ac96-774b-bcce-b302099a8057", string(id))}
	}
	return nil
}

type (
	sessionAnswer struct{ Body api.Session }
	createdAnswer struct {
		Status   int
		Location string `header:"Location" doc:"The session's path"`
		Body     api.Session
	}
	listAnswer   struct{ Body api.SessionList }
	statusAnswer struct{ Body api.Status }
	spendAnswer  struct{ Body api.SpendReport }
	createInput  struct {
		Key  string `header:"Idempotency-Key" maxLength:"255" doc:"A name for this request: sent again with the same task, it makes no second session"`
		Body api.NewSession
	}
	sessionInput struct {
		ID sessionID `path:"id" doc:"The session's id, a UUID"`
	}
	sendInput struct {
		ID   sessionID `path:"id" doc:"The session's id, a UUID"`
		Body api.NewMessage
	}
	resumeInput struct {
		ID   sessionID `path:"id" doc:"The session's id, a UUID"`
		Body *api.Resumption
	}
	listInput struct {
		State         []string  `query:"state,explode" doc:"Only sessions in one of these states; several may also be separated by commas"`
		IDPart        string    `query:"id" doc:"Only sessions whose id begins or ends with this"`
		Repo          string    `query:"repo" doc:"Only sessions with this repository"`
		CreatedAfter  time.Time `query:"created_after" doc:"Only sessions made after this time"`
		CreatedBefore time.Time `query:"created_before" doc:"Only sessions made before this time"`
		Order         string    `query:"order" enum:"oldest,newest" default:"oldest" doc:"Which come first"`
		After         string    `query:"after" doc:"Only sessions that come after this one: 'next' of the page before"`
		Limit         int       `query:"limit" minimum:"0" maximum:"1000" doc:"The most sessions of a page; 0 is no limit"`
	}
	bundleInput struct {
		ID   sessionID `path:"id" doc:"The session's id, a UUID"`
		Full bool      `query:"full" doc:"With the whole history, and not only what its origin lacks"`
	}
	bundleAnswer struct{ Body func(huma.Context) }
	diffInput    struct {
		ID     sessionID `path:"id" doc:"The session's id, a UUID"`
		Format string    `query:"format" enum:"json,patch" doc:"patch is the patch alone, as text; so is Accept: text/x-diff"`
		Accept string    `header:"Accept"`
	}
	diffAnswer struct {
		ContentType string `header:"Content-Type"`
		Body        []byte
	}
)

// register adds the operations to an API and its description.
func (h *handlers) register(to huma.API) {
	add(to, http.MethodGet, "/v1/status", "status", "How the agent is", http.StatusOK, h.status)
	add(to, http.MethodGet, "/v1/spend", "spend", "What was spent on the model", http.StatusOK, h.spend)
	add(to, http.MethodPost, "/v1/sessions", "create", "Hand in a task", http.StatusCreated, h.create)
	add(to, http.MethodGet, "/v1/sessions", "list", "List sessions", http.StatusOK, h.list)
	add(to, http.MethodGet, "/v1/sessions/{id}", "show", "One session", http.StatusOK, h.show)
	add(to, http.MethodPost, "/v1/sessions/{id}/messages", "send", "Send a session a message", http.StatusAccepted, h.send)
	add(to, http.MethodPost, "/v1/sessions/{id}/stop", "stop", "Cancel a session", http.StatusAccepted, h.stop)
	add(to, http.MethodPost, "/v1/sessions/{id}/resume", "resume", "Take up an ended session again", http.StatusAccepted, h.resume)
	add(to, http.MethodGet, "/v1/sessions/{id}/events", "events", "A session's events, as server-sent events", http.StatusOK, h.events, describeEvents)
	add(to, http.MethodGet, "/v1/sessions/{id}/diff", "diff", "What a session changed", http.StatusOK, h.diff, describeDiff(to))
	add(to, http.MethodGet, "/v1/sessions/{id}/bundle", "bundle", "A session's work as a git bundle, as of its last checkpoint", http.StatusOK, h.bundle, describeBundle)
}

// add registers one operation. The body's size is limited by limitBody, and not by huma once more.
func add[I, O any](to huma.API, method, path, name, summary string, status int, handler func(context.Context, *I) (*O, error), more ...func(*huma.Operation)) {
	operation := huma.Operation{
		Method: method, Path: path, OperationID: name, Summary: summary, DefaultStatus: status,
		MaxBodyBytes: maxBody + 1, BodyReadTimeout: readTime,
		Responses: map[string]*huma.Response{"default": {
			Description: "Refused, or failed",
			Content: map[string]*huma.MediaType{"application/json": {
				Schema: to.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Refusal](), true, ""),
			}},
		}},
	}
	for _, change := range more {
		change(&operation)
	}
	huma.Register(to, operation, handler)
}

func (h *handlers) status(ctx context.Context, _ *struct{}) (*statusAnswer, error) {
	return &statusAnswer{Body: h.agent.Status(ctx)}, nil
}

func (h *handlers) create(ctx context.Context, in *createInput) (*createdAnswer, error) {
	if err := in.Body.Check(); err != nil {
		return nil, refused(h.log, err)
	}
	session, created, err := h.agent.Create(ctx, in.Body, in.Key)
	if err != nil {
		return nil, refused(h.log, err)
	}
	answer := &createdAnswer{Status: http.StatusCreated, Location: "/v1/sessions/" + session.ID, Body: session}
	if !created {
		answer.Status = http.StatusOK
	}
	return answer, nil
}

func (h *handlers) spend(ctx context.Context, _ *struct{}) (*spendAnswer, error) {
	return &spendAnswer{Body: h.agent.Spend(ctx)}, nil
}

func (h *handlers) list(_ context.Context, in *listInput) (*listAnswer, error) {
	query := api.ListQuery{
		IDPart: in.IDPart, Repo: in.Repo, CreatedAfter: in.CreatedAfter, CreatedBefore: in.CreatedBefore,
		Newest: in.Order == "newest", After: in.After, Limit: in.Limit,
	}
	if in.After != "" && sessionID(in.After).Resolve(nil) != nil {
		return nil, refuse(api.CodeBadRequest, "after %.80q is not the id of a session: take 'next' of the page before", in.After)
	}
	for _, names := range in.State {
		for name := range strings.SplitSeq(names, ",") {
			state := api.State(strings.TrimSpace(name))
			if !slices.Contains(api.States, state) {
				return nil, refuse(api.CodeBadRequest, "there is no state %.40q: the states are %v", name, api.States)
			}
			query.States = append(query.States, state)
		}
	}
	return &listAnswer{Body: h.agent.Sessions(query)}, nil
}

// bundle answers with the bundle as it is made. What is wrong before its first byte is an ordinary answer.
func (h *handlers) bundle(ctx context.Context, in *bundleInput) (*bundleAnswer, error) {
	// A bundle is short of what a session added, but may be long; it is made on disk, so that its first byte comes late and
	// nothing goes wrong after it but the connection.
	file, err := os.CreateTemp("", "berth-bundle-*")
	if err != nil {
		return nil, refused(h.log, err)
	}
	_ = os.Remove(file.Name()) // it lives as long as it is open
	if err = h.agent.Bundle(ctx, string(in.ID), in.Full, file); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = file.Close()
		return nil, refused(h.log, err)
	}
	return &bundleAnswer{Body: func(answer huma.Context) {
		defer file.Close() //nolint:errcheck // it was only read
		answer.SetHeader("Content-Type", "application/x-git-bundle")
		_, _ = io.Copy(answer.BodyWriter(), file) // a client that is gone misses nothing
	}}, nil
}

func describeBundle(operation *huma.Operation) {
	operation.Responses["200"] = &huma.Response{
		Description: "OK",
		Content:     map[string]*huma.MediaType{"application/x-git-bundle": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
	}
}

func (h *handlers) show(_ context.Context, in *sessionInput) (*sessionAnswer, error) {
	return h.answer(h.agent.Session(string(in.ID)))
}

func (h *handlers) send(ctx context.Context, in *sendInput) (*sessionAnswer, error) {
	if err := api.CheckMessage(in.Body.Text); err != nil {
		return nil, refused(h.log, err)
	}
	return h.answer(h.agent.Send(ctx, string(in.ID), in.Body))
}

func (h *handlers) stop(ctx context.Context, in *sessionInput) (*sessionAnswer, error) {
	return h.answer(h.agent.Stop(ctx, string(in.ID)))
}

func (h *handlers) resume(ctx context.Context, in *resumeInput) (*sessionAnswer, error) {
	with := api.Resumption{}
	if in.Body != nil {
		with = *in.Body
	}
	if err := with.Check(); err != nil {
		return nil, refused(h.log, err)
	}
	return h.answer(h.agent.Resume(ctx, string(in.ID), with))
}

func (h *handlers) answer(session api.Session, err error) (*sessionAnswer, error) {
	if err != nil {
		return nil, refused(h.log, err)
	}
	return &sessionAnswer{Body: session}, nil
}

func (h *handlers) diff(ctx context.Context, in *diffInput) (*diffAnswer, error) {
	diff, err := h.agent.Diff(ctx, string(in.ID))
	if err != nil {
		return nil, refused(h.log, err)
	}
	if in.Format == "patch" || in.Format == "" && strings.HasPrefix(in.Accept, "text/x-diff") {
		return &diffAnswer{ContentType: "text/x-diff; charset=utf-8", Body: []byte(diff.Patch)}, nil
	}
	body, err := json.Marshal(diff)
	if err != nil {
		return nil, refused(h.log, err)
	}
	return &diffAnswer{ContentType: "application/json", Body: body}, nil
}

// describeDiff says what huma cannot see: that the bytes of the answer are one of two things.
func describeDiff(to huma.API) func(*huma.Operation) {
	return func(operation *huma.Operation) {
		operation.Responses["200"] = &huma.Response{
			Description: "OK",
			Content: map[string]*huma.MediaType{
				"application/json": {Schema: to.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.Diff](), true, "")},
				"text/x-diff":      {Schema: &huma.Schema{Type: huma.TypeString}},
			},
		}
	}
}
