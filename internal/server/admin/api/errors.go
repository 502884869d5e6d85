package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Error is a refusal. What is sent of it is an admin.Error.
type Error struct {
	Status      int
	Code        string
	Description string
	Problems    authority.Problems // every rule that what was sent breaks

	cause error // for the log alone
	scope string
}

func (e *Error) Error() string { return e.Code + ": " + e.Description }

func (e *Error) Unwrap() error { return e.cause }

// Because adds the cause, for the log alone.
func (e *Error) Because(cause error) *Error {
	e.cause = cause
	return e
}

// Invalid refuses what was sent.
func Invalid(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: string(oauth.InvalidRequest), Description: fmt.Sprintf(format, args...)}
}

// broken tells of all, and of the first one in words.
func broken(found authority.Problems) *Error {
	e := Invalid("%v", found[0])
	if more := len(found) - 1; more > 0 {
		e.Description += fmt.Sprintf(" (and %d more: see problems)", more)
	}
	e.Problems = found
	return e
}

// NotFound is the answer for what is not there.
func NotFound(format string, args ...any) *Error {
	return &Error{Status: http.StatusNotFound, Code: "not_found", Description: fmt.Sprintf(format, args...)}
}

// Conflict refuses what does not fit what is there.
func Conflict(code, format string, args ...any) *Error {
	return &Error{Status: http.StatusConflict, Code: code, Description: fmt.Sprintf(format, args...)}
}

// Unavailable says that it cannot be done now.
func Unavailable(description string) *Error {
	return &Error{Status: http.StatusServiceUnavailable, Code: string(oauth.TemporarilyUnavailable), Description: description}
}

func badToken(description string) *Error {
	return &Error{Status: http.StatusUnauthorized, Code: string(oauth.InvalidToken), Description: description}
}

// LacksScope refuses a caller whose token has not the scope.
func LacksScope(scope string) *Error {
	return &Error{Status: http.StatusForbidden, Code: string(oauth.InsufficientScope), Description: "the access token lacks the scope " + scope, scope: scope}
}

// ReadOnly is the answer to a change of what the configuration file holds.
func ReadOnly(kind, id string) *Error {
	return Conflict("read_only", "%s %q is in the configuration file: change it there and reload the service", kind, id)
}

// errorOf is the one mapping from a failure to what is said aloud.
func errorOf(err error) *Error {
	var ours *Error
	var refused *oauth.Error
	var found authority.Problems
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &refused) && refused.Code != oauth.TemporarilyUnavailable && refused.Code != oauth.ServerError:
		return (&Error{Status: refused.Code.Status(), Code: string(oauth.InvalidRequest), Description: refused.Description}).Because(err)
	case errors.As(err, &found):
		return broken(found)
	case errors.Is(err, authority.ErrRetired):
		return Conflict("already_exists", "something that was deleted had this id, and an id is never given twice: choose another")
	case errors.Is(err, authority.ErrNotFound):
		return NotFound("there is nothing with this id")
	case errors.Is(err, authority.ErrExists):
		return Conflict("already_exists", "this id or name is taken")
	case errors.Is(err, authority.ErrConflict):
		return Conflict("conflict", "somebody else changed it at the same moment: read it again and retry")
	default:
		return Unavailable("the service cannot answer right now: what was asked for may be done in part, so look before you try again").Because(err)
	}
}

// writeError answers with a failure.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	e := errorOf(err)
	switch e.Status {
	case http.StatusUnauthorized: // RFC 6750 §3: no code where no token was sent
		challenge := `Bearer realm="signalbox-admin"`
		if e.Code == string(oauth.InvalidToken) && !errors.Is(err, errNoToken) {
			challenge += `, error="invalid_token"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
	case http.StatusForbidden:
		w.Header().Set("WWW-Authenticate", `Bearer realm="signalbox-admin", error="insufficient_scope", scope="`+e.scope+`"`)
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	refused := httpx.Refusal{Status: e.Status, Code: e.Code, Description: e.Description, Cause: e.cause}
	if len(e.Problems) > 0 {
		refused.Problems = e.Problems
	}
	httpx.Refuse(w, r, refused)
}

var errNoToken = badToken("an access token for the resource " + authority.AdminResource + " is needed, as Authorization: Bearer")
