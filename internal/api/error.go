package api

import "fmt"

// Error says what went wrong, to a program and to a person. Both a failed session and a refused request
// carry one.
type Error struct {
	Code    Code   `json:"code" doc:"One of a fixed list, for programs"`
	Message string `json:"message" doc:"What failed, with which value, and what to do next, for people"`
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an error with a code.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Code names a kind of error.
type Code string

// Why a session failed.
const (
	CodeAPIError      Code = "api_error"      // the model's API refused, or could not be reached
	CodeMaxTurns      Code = "max_turns"      // limit reached
	CodeMaxBudget     Code = "max_budget"     // limit reached
	CodeTimeout       Code = "timeout"        // limit reached
	CodeSpendLimit    Code = "spend_limit"    // the agent's limit of the day or the month is reached
	CodeCloneFailed   Code = "clone_failed"   // the repository could not be cloned
	CodeWorkspaceLost Code = "workspace_lost" // the work dir is gone
	CodeClaudeFailed  Code = "claude_failed"  // Claude Code ended without success and named no other reason
	CodeLogFull       Code = "log_full"       // it has said more than the agent keeps of a session
	CodeNoProgress    Code = "no_progress"    // it was started again and again, and got no further
)

// Why a request was refused.
const (
	CodeBadRequest     Code = "bad_request"      // 400, 422: it is not what the API description says
	CodeUnauthorized   Code = "unauthorized"     //nolint:misspell // 401: no token, or a wrong one; HTTP spells it so
	CodeForbidden      Code = "forbidden"        // 403: from a web page, or for another host
	CodeNotFound       Code = "not_found"        // 404
	CodeConflict       Code = "conflict"         // 409: the session's state does not allow it
	CodePromptTooLarge Code = "prompt_too_large" // 413
	CodeStopping       Code = "stopping"         // 503: the agent is going down
	CodeBusy           Code = "busy"             // 503, with Retry-After: it cannot be told for a moment
	CodeVolume         Code = "volume_error"     // 507: the volume cannot be written
	CodeInternal       Code = "internal"         // 500
)

// Limit reports whether a session with this error was ended by a limit, its own or the agent's.
func (c Code) Limit() bool {
	return c == CodeMaxTurns || c == CodeMaxBudget || c == CodeTimeout || c == CodeSpendLimit
}
