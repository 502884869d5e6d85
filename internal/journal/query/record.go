package query

import (
	"encoding/json"
	"fmt"
	"time"
)

// Record is one line, decoded. Its strings hold what the caller sent: whoever
// prints them to a terminal prints Raw instead, or escapes them again.
type Record struct {
	Node          string    `json:"node,omitempty"` // from the file's name
	Seq           uint64    `json:"seq"`
	Time          time.Time `json:"time"`
	Type          string    `json:"type"`
	RequestID     string    `json:"request_id,omitempty"`
	Remote        string    `json:"remote,omitempty"`
	Actor         string    `json:"actor,omitempty"`
	ClientID      string    `json:"client_id,omitempty"`
	Subject       *Subject  `json:"subject,omitempty"`
	GrantType     string    `json:"grant_type,omitempty"`
	GrantID       string    `json:"grant_id,omitempty"`
	SessionID     string    `json:"sid,omitempty"`
	TokenID       string    `json:"jti,omitempty"`
	TokenHash     string    `json:"token_hash,omitempty"`
	OriginID      string    `json:"origin_jti,omitempty"`
	OriginHash    string    `json:"origin_hash,omitempty"`
	OriginPod     string    `json:"origin_pod,omitempty"`
	AssertionID   string    `json:"assertion_jti,omitempty"`
	AssertionHash string    `json:"assertion_hash,omitempty"`
	AssertionPod  string    `json:"assertion_pod,omitempty"`
	Policy        string    `json:"policy,omitempty"`
	Audience      []string  `json:"aud,omitempty"`
	Scope         string    `json:"scope,omitempty"`
	ExpiresAt     int64     `json:"exp,omitempty"` // seconds since 1970
	Error         string    `json:"error,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	Target        string    `json:"target,omitempty"`
	Changes       []Change  `json:"changes,omitempty"`
	Count         uint64    `json:"count,omitempty"`
	Head          string    `json:"head,omitempty"`
	JWS           string    `json:"jws,omitempty"`
	Prev          string    `json:"prev"`

	Raw []byte `json:"-"` // the line without its newline: printable ASCII
}

// Subject is whom the record is about.
type Subject struct {
	Issuer string `json:"issuer,omitempty"`
	ID     string `json:"id,omitempty"`
	Kind   string `json:"kind,omitempty"`
}

// Change is one thing that was changed about the target.
type Change struct {
	Field string `json:"field"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

// decode reads a line, its newline included, and keeps it.
func decode(node string, line []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("not a line of a journal: %w", err)
	}
	r.Node = node
	r.Raw = line[:len(line)-1]
	return r, nil
}
