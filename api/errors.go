package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/cyber-boost/syspulse/spec"
)

// Code says in one word what went wrong, for programs. Codes are public and
// keep their meaning.
type Code string

// The codes.
const (
	CodeFailed       Code = "failed"        // tried, and it didn't work
	CodeNotFound     Code = "not_found"     // no such daemon
	CodeConflict     Code = "conflict"      // refused because of how things stand
	CodeInvalid      Code = "invalid"       // the request can't be meant so
	CodeTimeout      Code = "timeout"       // a wait took longer than asked for
	CodeShuttingDown Code = "shutting_down" // the manager is ending
	CodeReplacing    Code = "replacing"     // the manager is being replaced by another binary; nothing was done, ask again
	CodeUnsupported  Code = "unsupported"   // not on this platform or in this build
	CodeNoRoute      Code = "no_route"      // no such path or method
	CodeTooLarge     Code = "too_large"     // the request is larger than the server reads
	CodeInternal     Code = "internal"      // a bug
	CodeForbidden    Code = "forbidden"     // the manager, or its socket, belongs to someone else
	CodeNoManager    Code = "no_manager"    // nobody answers; only a client says this
)

// statuses gives each code its HTTP status and the title of its problem.
var statuses = map[Code]struct {
	status int
	title  string
}{
	CodeFailed:       {http.StatusBadGateway, "The operation failed"},
	CodeNotFound:     {http.StatusNotFound, "No such daemon"},
	CodeConflict:     {http.StatusConflict, "Refused as things stand"},
	CodeInvalid:      {http.StatusBadRequest, "The request is not valid"},
	CodeTimeout:      {http.StatusGatewayTimeout, "The wait timed out"},
	CodeShuttingDown: {http.StatusServiceUnavailable, "The manager is shutting down"},
	CodeReplacing:    {http.StatusServiceUnavailable, "The manager is being replaced"},
	CodeUnsupported:  {http.StatusNotImplemented, "Not supported here"},
	CodeNoRoute:      {http.StatusNotFound, "No such path"},
	CodeTooLarge:     {http.StatusRequestEntityTooLarge, "The request is too large"},
	CodeInternal:     {http.StatusInternalServerError, "Internal error"},
	CodeForbidden:    {http.StatusForbidden, "Not allowed"},
	CodeNoManager:    {http.StatusServiceUnavailable, "No manager is running"},
}

// Error is a failure, and at once the RFC 9457 problem document that carries
// it over the wire (application/problem+json).
type Error struct {
	Type     string   `json:"type"` // a URN of the code
	Title    string   `json:"title"`
	Status   int      `json:"status"` // of the HTTP response
	Detail   string   `json:"detail"` // what is wrong, where, and what to do
	Code     Code     `json:"code"`
	Daemon   string   `json:"daemon,omitempty"`   // whom it is about
	Problems []string `json:"problems,omitempty"` // each of them, where there are several
}

// NewError makes an Error. An unknown code becomes CodeInternal.
func NewError(code Code, format string, args ...any) *Error {
	s, ok := statuses[code]
	if !ok {
		code, s = CodeInternal, statuses[CodeInternal]
	}
	return &Error{
		Type:   "urn:syspulse:problem:" + string(code),
		Title:  s.title,
		Status: s.status,
		Detail: fmt.Sprintf(format, args...),
		Code:   code,
	}
}

func (e *Error) Error() string { return e.Detail }

// Is makes errors.Is(err, &Error{Code: c}) true for every error of code c.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Detail == ""
}

// Errors to compare with, by errors.Is.
var (
	ErrNotFound     error = &Error{Code: CodeNotFound}
	ErrConflict     error = &Error{Code: CodeConflict}
	ErrInvalid      error = &Error{Code: CodeInvalid}
	ErrTimeout      error = &Error{Code: CodeTimeout}
	ErrShuttingDown error = &Error{Code: CodeShuttingDown}
	ErrReplacing    error = &Error{Code: CodeReplacing}
	ErrUnsupported  error = &Error{Code: CodeUnsupported}
	ErrNoManager    error = &Error{Code: CodeNoManager}
)

// ErrInterrupted ends a stream whose manager can't go on. Another may come, and
// the stream can be resumed there; so it isn't told over the wire, where the
// connection breaks off instead.
var ErrInterrupted = errors.New("the manager can't go on")

// NotFound is the error for a daemon that nobody registered. It names the one
// of those that are known that was perhaps meant.
func NotFound(name string, known ...string) *Error {
	hint := "`syspulse list` shows those there are"
	if near := spec.Nearest(name, known); near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	}
	e := NewError(CodeNotFound, "no daemon is called %q; %s", name, hint)
	e.Daemon = name
	return e
}

// Conflict refuses something about the daemon as things stand.
func Conflict(daemon, format string, args ...any) *Error {
	e := NewError(CodeConflict, format, args...)
	e.Daemon = daemon
	return e
}

// Invalid refuses a request, with all that is wrong with it.
func Invalid(detail string, problems ...string) *Error {
	e := NewError(CodeInvalid, "%s", detail)
	e.Problems = problems
	return e
}

// Timeout is the error of a wait for the daemon that took too long.
func Timeout(daemon, format string, args ...any) *Error {
	e := NewError(CodeTimeout, format, args...)
	e.Daemon = daemon
	return e
}

// ShuttingDown refuses what comes while the manager ends.
func ShuttingDown() *Error {
	return NewError(CodeShuttingDown, "the manager is shutting down; try again when a new one runs")
}

// Unsupported refuses what can't be done on this platform or in this build.
func Unsupported(format string, args ...any) *Error {
	return NewError(CodeUnsupported, format, args...)
}

// CodeOf is the code of err: that of the *Error in it, CodeTimeout for an
// expired context, else CodeFailed. It is empty for nil.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.DeadlineExceeded):
		return CodeTimeout
	}
	return CodeFailed
}
