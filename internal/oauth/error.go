// Package oauth holds the words of the protocol: error codes, grant and token
// types, scopes, resource indicators and PKCE, each parsed once into a value
// that can then only be valid. It knows no client, no user and no storage.
package oauth

import (
	"errors"
	"fmt"
	"net/http"
)

// Code is an error code of an RFC, exactly as sent.
type Code string

// The codes that Signalbox answers with, and where each is defined.
const (
	InvalidRequest          Code = "invalid_request"                   // RFC 6749 §5.2
	InvalidClient           Code = "invalid_client"                    // RFC 6749 §5.2
	InvalidGrant            Code = "invalid_grant"                     // RFC 6749 §5.2
	UnauthorizedClient      Code = "unauthorized_client"               // RFC 6749 §5.2
	UnsupportedGrantType    Code = "unsupported_grant_type"            // RFC 6749 §5.2
	InvalidScope            Code = "invalid_scope"                     // RFC 6749 §5.2
	AccessDenied            Code = "access_denied"                     // RFC 6749 §4.1.2.1
	UnsupportedResponseType Code = "unsupported_response_type"         // RFC 6749 §4.1.2.1
	ServerError             Code = "server_error"                      // RFC 6749 §4.1.2.1
	TemporarilyUnavailable  Code = "temporarily_unavailable"           // RFC 6749 §4.1.2.1
	InvalidToken            Code = "invalid_token"                     // RFC 6750 §3.1
	InsufficientScope       Code = "insufficient_scope"                // RFC 6750 §3.1
	InvalidTarget           Code = "invalid_target"                    // RFC 8707 §2
	UnsupportedTokenType    Code = "unsupported_token_type"            // RFC 7009 §2.2.1
	LoginRequired           Code = "login_required"                    // OpenID Connect Core §3.1.2.6
	ConsentRequired         Code = "consent_required"                  // OpenID Connect Core §3.1.2.6
	InteractionRequired     Code = "interaction_required"              // OpenID Connect Core §3.1.2.6
	UnmetAuthentication     Code = "unmet_authentication_requirements" // OpenID Connect Core Error Code unmet_authentication_requirements §2
	RequestNotSupported     Code = "request_not_supported"             // OpenID Connect Core §3.1.2.6
	RequestURINotSupported  Code = "request_uri_not_supported"         // OpenID Connect Core §3.1.2.6
)

// Status is the HTTP status that the code's RFC asks for on an endpoint that
// answers JSON.
func (c Code) Status() int {
	switch c {
	case InvalidClient, InvalidToken:
		return http.StatusUnauthorized
	case InsufficientScope, AccessDenied:
		return http.StatusForbidden
	case TemporarilyUnavailable:
		return http.StatusServiceUnavailable
	case ServerError:
		return http.StatusInternalServerError
	default:
		return http.StatusBadRequest
	}
}

// Error is a refusal. Description is public and written for the client's
// developer. The cause is for the log and never leaves the server.
type Error struct {
	Code        Code
	Description string
	cause       error
}

// Errorf makes an Error. The text is public: it must hold no secret and no
// internal detail.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Description: fmt.Sprintf(format, args...)}
}

// Because returns the same error with its private cause, for the log.
func (e *Error) Because(cause error) *Error {
	return &Error{Code: e.Code, Description: e.Description, cause: cause}
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Reason() }

// Reason is the description with the private cause, if there is one: for log and
// journal, never for the answer.
func (e *Error) Reason() string {
	if e.cause != nil {
		return e.Description + ": " + e.cause.Error()
	}
	return e.Description
}

func (e *Error) Unwrap() error { return e.cause }

// AsError maps any failure to what may be answered. What is not already an
// Error is a fault of ours or of the storage: 503, so that a client tries
// again and never concludes that its grant has ended.
func AsError(err error) *Error {
	var refused *Error
	if errors.As(err, &refused) {
		return refused
	}
	return Errorf(TemporarilyUnavailable, "the service cannot answer right now, try again").Because(err)
}
