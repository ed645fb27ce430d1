package workspace

import (
	"context"
	"errors"
	"io"

	"berth/internal/api"
)

var errNotYet = errors.New("not made yet")

// Diff returns everything in a place's tree that differs from the commit base, as git prints it: committed or not,
// untracked files included, ignored ones left out, renames found, binary files in a form that git can apply. An
// empty base is the empty tree. It is made from the last checkpoint if there is no tree. Errors are an *api.Error
// with the code workspace_lost if there is neither, or base is gone.
func (m *Mirrors) Diff(ctx context.Context, place Place, base string) (patch string, err error) {
	return "", errNotYet
}

// Bundle writes a git bundle with the session's last checkpoint as refs/heads/<branch>, as Deliver pushes it: with
// all of its history if full, else with what base lacks. Errors are an *api.Error with the code not_found if there
// is no checkpoint, or nothing in it that base lacks.
func (m *Mirrors) Bundle(ctx context.Context, id string, source Source, branch, base string, full bool, w io.Writer) error {
	return errNotYet
}

// Deliver pushes the session's last checkpoint to its origin, as the place's branch, and sees to a pull request where
// the origin is on GitHub. Of the place it needs ID, Source and Branch. The zero Delivery means that there is nothing to
// deliver. Whatever goes wrong is the Delivery's Problem. Delivering twice is the same as once.
func (m *Mirrors) Deliver(ctx context.Context, place Place, request Request) api.Delivery {
	return api.Delivery{Problem: errNotYet.Error()}
}

// Forget removes a session's checkpoint. That there is none is no error.
func (m *Mirrors) Forget(ctx context.Context, source Source, id string) error { return errNotYet }

// Maintain tidies the mirrors that have become slow to read: it joins packs, and at times drops what no
// checkpoint has needed for two weeks. With nothing to do it costs a listing of each mirror; call it every minute or
// so, from one goroutine. Sessions may go on meanwhile.
func (m *Mirrors) Maintain(ctx context.Context) error { return errNotYet }

// Able says what keeps git from being run, for people; nil if nothing does.
func Able() error { return nil }
