package session

import (
	"slices"

	"berth/internal/api"
)

// transitions is the life of a session: the states that may follow each one.
//
//	         ┌────────────────────────── resume, message ──────────────────────────┐
//	         ▼                                                                     │
//	──▶ queued ──▶ preparing ──▶ running ──▶ succeeded | failed | cancelled ───────┘
//	     ▲ ▲           │          │   │
//	     │ │           ▼          │   └──▶ waiting ───┐   a limit names a time
//	     │ └────── interrupted ◀──┘                   │
//	     └────────────────────────────────────────────┘
//
// Also, though not drawn: preparing may fail; whatever has not ended may be cancelled; an interrupted
// session fails when it was started too often without getting further.
var transitions = map[api.State][]api.State{
	api.Queued:      {api.Preparing, api.Cancelled},
	api.Preparing:   {api.Running, api.Interrupted, api.Failed, api.Cancelled},
	api.Running:     {api.Succeeded, api.Failed, api.Cancelled, api.Interrupted, api.Waiting},
	api.Interrupted: {api.Queued, api.Failed, api.Cancelled},
	api.Waiting:     {api.Queued, api.Cancelled},
	api.Succeeded:   {api.Queued},
	api.Failed:      {api.Queued},
	api.Cancelled:   {api.Queued},
}

// Allowed reports whether a session may go from one state to another.
func Allowed(from, to api.State) bool { return slices.Contains(transitions[from], to) }
