package admin

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Error is a refusal of the service: the body of every answer that is not a success.
type Error struct {
	Status      int       `json:"-"` // of HTTP
	Code        string    `json:"error" doc:"What went wrong, for programs." enum:"invalid_request,invalid_token,insufficient_scope,not_found,method_not_allowed,already_exists,conflict,read_only,temporarily_unavailable"`
	Description string    `json:"error_description" doc:"What went wrong, for people."`
	Problems    []Problem `json:"problems,omitempty" doc:"Every rule that what was sent breaks."`
	RequestID   string    `json:"request_id,omitempty" doc:"The correlation id; it is also in the log and in the journal."`
}

// Error is the description, and the number under which the service knows the request.
func (e *Error) Error() string {
	if e.RequestID == "" {
		return e.Description
	}
	return e.Description + " (request " + e.RequestID + ")"
}

// Problem is one rule that something breaks, and what to do about it.
type Problem struct {
	Field string `json:"field" doc:"As it is written: redirect_uris[2]."`
	Text  string `json:"text" doc:"What is wrong; it follows the field: has a fragment."`
	Fix   string `json:"fix"`

	Line   int `json:"line,omitempty" doc:"With column: where in a value that is a text of its own, such as CEL; from 1, in characters."`
	Column int `json:"column,omitempty"`
}

// NotAPIError says that something else than the admin API has answered: the URL is wrong, or a proxy is in between.
type NotAPIError struct {
	StatusCode int
	Status     string // the same, in words
}

func (e *NotAPIError) Error() string {
	return fmt.Sprintf("admin: what answered %q is not the admin API", e.Status)
}

func notAPI(response *http.Response) error {
	return &NotAPIError{StatusCode: response.StatusCode, Status: response.Status}
}

// UnreachedError says that no answer came, or not all of one. What was asked for may have been done.
type UnreachedError struct {
	Err error
}

func (e *UnreachedError) Error() string { return "admin: no answer: " + e.Err.Error() }
func (e *UnreachedError) Unwrap() error { return e.Err }

// refusalOf reads the answer of a request that was not taken, and closes it.
func refusalOf(response *http.Response) error {
	defer func() { _ = response.Body.Close() }()
	refused := &Error{Status: response.StatusCode}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxError))
	if err != nil || json.Unmarshal(text, refused) != nil || refused.Code == "" {
		return notAPI(response)
	}
	return refused
}
