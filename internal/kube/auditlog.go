package kube

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"
)

// The audit log of an API server: one JSON object of audit.k8s.io/v1 a line. It names tokens by
// their credential id, JTI= and the `jti`: in an annotation when the API server issues one
// (TokenRequest), and in user.extra of each request that was made with one.
const (
	credentialID       = "authentication.kubernetes.io/credential-id"
	issuedCredentialID = "authentication.kubernetes.io/issued-credential-id"
	credentialPrefix   = "JTI="
)

// MaxAuditLine bounds one event. One with the bodies of a large object has a few megabytes.
const MaxAuditLine = 16 << 20

// AuditEvent is one request as the audit log of an API server has it.
type AuditEvent struct {
	AuditID   string      `json:"audit_id"`
	Time      time.Time   `json:"time"`
	Stage     string      `json:"stage"`
	Verb      string      `json:"verb"`
	Path      string      `json:"path"` // without its query, which may hold anything
	Object    AuditObject `json:"object,omitzero"`
	Username  string      `json:"username,omitempty"`
	UserAgent string      `json:"user_agent,omitempty"`
	SourceIPs []string    `json:"source_ips,omitempty"`
	Code      int         `json:"code,omitempty"` // not yet there at the beginning of a long answer
	Issued    string      `json:"issued,omitempty"`
	Used      string      `json:"used,omitempty"`
	Pod       string      `json:"pod,omitempty"` // that Issued is bound to, where the log has the request's body
}

// AuditObject is what a request was about.
type AuditObject struct {
	Group       string `json:"group,omitempty"`
	Resource    string `json:"resource,omitempty"`
	Subresource string `json:"subresource,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name,omitempty"`
}

// AuditLogRead says what a log had.
type AuditLogRead struct {
	Events int `json:"events"`
	// Unread are lines that are no event or too long to be read: they may hide something.
	Unread      int `json:"unread"`
	FirstUnread int `json:"first_unread,omitempty"` // the number of the first of them
}

// FindInAuditLog streams a log and gives the events in which one of the tokens was issued (Issued) or
// used (Used), in the order of the log. Lines that name none of the tokens are not decoded: a log may
// have gigabytes. An error of found ends it and is returned.
func FindInAuditLog(ctx context.Context, r io.Reader, tokens []string, found func(AuditEvent) error) (AuditLogRead, error) {
	var read AuditLogRead
	names := make([][]byte, len(tokens))
	for i, id := range tokens {
		quoted, err := json.Marshal(credentialPrefix + id)
		if err != nil {
			return read, err
		}
		names[i] = quoted
	}
	lines := bufio.NewReaderSize(r, 64<<10)
	for number := 1; ; number++ {
		if err := ctx.Err(); err != nil {
			return read, err
		}
		line, whole, err := auditLine(lines)
		if err != nil && !errors.Is(err, io.EOF) {
			return read, err
		}
		ended := err != nil
		if line = bytes.TrimSpace(line); len(line) > 0 || !whole {
			is, err := read.line(line, whole, names, tokens, found)
			if err != nil {
				return read, err
			}
			if !is {
				read.Unread++
				if read.FirstUnread == 0 {
					read.FirstUnread = number
				}
			}
		}
		if ended {
			return read, nil
		}
	}
}

// line looks at one line, and says whether it is an event.
func (read *AuditLogRead) line(line []byte, whole bool, names [][]byte, tokens []string, found func(AuditEvent) error) (bool, error) {
	if !whole || line[0] != '{' || line[len(line)-1] != '}' || !bytes.Contains(line, []byte(`"audit.k8s.io/v1"`)) {
		return false, nil
	}
	if !slices.ContainsFunc(names, func(name []byte) bool { return bytes.Contains(line, name) }) {
		read.Events++
		return true, nil
	}
	event, err := parseAuditEvent(line, tokens)
	if err != nil {
		return false, nil
	}
	read.Events++
	if event.Issued == "" && event.Used == "" {
		return true, nil
	}
	return true, found(event)
}

// auditLine reads one line without its newline. Of one that is too long nothing is kept.
func auditLine(r *bufio.Reader) (line []byte, whole bool, err error) {
	whole = true
	for {
		part, err := r.ReadSlice('\n')
		if whole = whole && len(line)+len(part) <= MaxAuditLine; !whole {
			line = nil
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if whole {
				line = append(line, part...)
			}
			continue
		case !whole:
			return nil, false, err
		case line == nil: // as it is in the buffer, until the next line is read
			return part, true, err
		}
		return append(line, part...), true, err
	}
}

// parseAuditEvent decodes one event, and finds which of the tokens it issued and with which it was made.
func parseAuditEvent(line []byte, tokens []string) (AuditEvent, error) {
	var said struct {
		Kind                     string
		APIVersion               string
		AuditID                  string
		Stage                    string
		RequestURI               string
		Verb                     string
		RequestReceivedTimestamp time.Time
		User                     struct {
			Username string
			Extra    map[string][]string
		}
		SourceIPs []string
		UserAgent string
		ObjectRef struct {
			APIGroup, Resource, Subresource, Namespace, Name string
		}
		ResponseStatus struct{ Code int }
		RequestObject  json.RawMessage
		Annotations    map[string]string
	}
	if err := json.Unmarshal(line, &said); err != nil {
		return AuditEvent{}, err
	}
	if said.Kind != "Event" || said.APIVersion != "audit.k8s.io/v1" {
		return AuditEvent{}, errors.New("not an event of an audit log")
	}
	path, _, _ := strings.Cut(said.RequestURI, "?")
	event := AuditEvent{
		AuditID: said.AuditID, Time: said.RequestReceivedTimestamp.UTC(), Stage: said.Stage, Verb: said.Verb, Path: path,
		Object:   AuditObject{said.ObjectRef.APIGroup, said.ObjectRef.Resource, said.ObjectRef.Subresource, said.ObjectRef.Namespace, said.ObjectRef.Name},
		Username: said.User.Username, UserAgent: said.UserAgent, SourceIPs: said.SourceIPs, Code: said.ResponseStatus.Code,
	}
	for _, id := range tokens {
		if said.Annotations[issuedCredentialID] == credentialPrefix+id {
			event.Issued = id
		}
		if slices.Contains(said.User.Extra[credentialID], credentialPrefix+id) {
			event.Used = id
		}
	}
	var asked struct {
		Spec struct {
			BoundObjectRef struct{ Kind, Name string }
		}
	}
	if event.Issued != "" && len(said.RequestObject) > 0 && json.Unmarshal(said.RequestObject, &asked) == nil && asked.Spec.BoundObjectRef.Kind == "Pod" {
		event.Pod = asked.Spec.BoundObjectRef.Name
	}
	return event, nil
}
