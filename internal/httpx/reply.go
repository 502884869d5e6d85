package httpx

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Request is what the server knows about a request beside its content. The
// server's middleware puts it into the context, once.
type Request struct {
	ID     string // correlation id: in every answer, log line and journal record
	Remote string // IP address of the caller, after trusted proxies
	Log    Note   // what the handler adds to the one log line of the request

	Writer http.ResponseWriter // for the deadline of the body; nil outside a server
	Room   *Room               // for the body; nil for no bound
	taken  int                 // of Room
}

// Note is filled by handlers for the request's log line.
type Note struct {
	ClientID    string
	Proved      bool // the client has proved that it is ClientID
	Error       string
	Description string // what the caller was told; not in the log
	Cause       error
}

type requestKey struct{}

// WithRequest returns a context that carries req.
func WithRequest(ctx context.Context, req *Request) context.Context {
	return context.WithValue(ctx, requestKey{}, req)
}

// RequestOf returns the request's own data; an empty one outside a server.
func RequestOf(ctx context.Context) *Request {
	if req, ok := ctx.Value(requestKey{}).(*Request); ok {
		return req
	}
	return &Request{}
}

// JSON writes a value. No answer of ours may be cached unless its handler
// says so after this call's headers were considered: tokens pass here.
func JSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		slog.Error("an answer could not be encoded", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	RawJSON(w, status, body)
}

// RawJSON writes a value that is JSON already.
func RawJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Cache-Control"] = noStore
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

var (
	jsonType = []string{"application/json"}
	noStore  = []string{"no-store"}
)

// ErrTooMany refuses a caller who has failed too often.
var ErrTooMany = oauth.Errorf(oauth.TemporarilyUnavailable, "too many failed attempts, try again later")

// Refusal is a failure as it leaves. Description is for the client's developer;
// the cause goes to the log and nowhere else.
type Refusal struct {
	Status      int
	Code        string
	Description string
	Problems    any // with each member of what was sent; nil for none
	Cause       error
}

// Refuse is the one place where a failure becomes an answer of JSON
// (RFC 6749 §5.2).
func Refuse(w http.ResponseWriter, r *http.Request, refused Refusal) {
	req := RequestOf(r.Context())
	req.Log.Error, req.Log.Description, req.Log.Cause = refused.Code, refused.Description, refused.Cause
	JSON(w, refused.Status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description,omitempty"`
		Problems    any    `json:"problems,omitempty"`
		RequestID   string `json:"request_id,omitempty"`
	}{refused.Code, refused.Description, refused.Problems, req.ID})
}

// Error answers with the code and the status that the RFC has for a failure.
func Error(w http.ResponseWriter, r *http.Request, err error) {
	refused := oauth.AsError(err)
	status := refused.Code.Status()
	switch refused {
	case errFormTooLarge, errBodyTooLarge:
		status = http.StatusRequestEntityTooLarge
	case errSlow:
		status = http.StatusRequestTimeout
	case ErrTooMany:
		status = http.StatusTooManyRequests
	}
	switch refused.Code {
	case oauth.TemporarilyUnavailable:
		w.Header().Set("Retry-After", "1")
	case oauth.InvalidClient:
		// RFC 6749 §5.2: the scheme that the client used, or may use.
		w.Header().Set("WWW-Authenticate", `Basic realm="signalbox", charset="UTF-8"`)
	}
	Refuse(w, r, Refusal{Status: status, Code: string(refused.Code), Description: refused.Description, Cause: errors.Unwrap(refused)})
}

// NotFound answers for a path that there is not.
func NotFound(w http.ResponseWriter, r *http.Request) {
	Refuse(w, r, Refusal{Status: http.StatusNotFound, Code: "not_found", Description: "there is no such path"})
}

// MethodNotAllowed answers for a path that takes only the methods in allowed.
func MethodNotAllowed(w http.ResponseWriter, r *http.Request, allowed string) {
	w.Header().Set("Allow", allowed)
	Refuse(w, r, Refusal{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Description: "this path takes " + allowed})
}
