package admin

import (
	"context"
	"time"

	"github.com/signalbox-sts/signalbox/internal/operation"
)

// Revoke names what is to end: exactly one thing.
type Revoke struct {
	Token      string `json:"token,omitempty" doc:"An access token of this issuer; or a refresh token, and then its grant ends."`
	WithGrant  bool   `json:"with_grant,omitempty" doc:"With token: end its grant too, and all that came from it."`
	GrantID    string `json:"grant_id,omitempty"`
	ClientID   string `json:"client_id,omitempty" doc:"Everything of this client that is older than now."`
	UserID     string `json:"user_id,omitempty" doc:"Everything of this user that is older than now."`
	Username   string `json:"username,omitempty" doc:"The same, by name."`
	Cluster    string `json:"cluster,omitempty" doc:"Everything older than now of the workloads that proved themselves in this cluster, which may be gone."`
	Issuer     string `json:"trusted_issuer,omitempty" doc:"The same of a trusted issuer."`
	Workload   string `json:"workload,omitempty" doc:"The same of one namespace or service account: cluster:NAME:ns:NAMESPACE or cluster:NAME:ns:NAMESPACE:sa:ACCOUNT; or of one subject of a trusted issuer: issuer:NAME:SUBJECT."`
	Everything bool   `json:"everything,omitempty" doc:"Everything that is older than now, the caller's own token included."`
	Force      bool   `json:"force,omitempty" doc:"With grant_id: end it although nothing of it is known here. What a machine got for itself is in the journal of the node that issued it alone."`
	DryRun     bool   `json:"dry_run,omitempty" doc:"Change nothing, and say what would end."`
}

// Revoked says what has ended, or with dry_run what would.
type Revoked struct {
	DryRun       bool          `json:"dry_run"`
	Kind         string        `json:"kind" enum:"token,grant,client,user,cluster,issuer,workload,everything"`
	Key          string        `json:"key,omitempty" doc:"The id of what was named."`
	ActiveGrants int64         `json:"active_grants" doc:"Standing grants. Tokens that machines get for themselves have none, end too, and are not counted."`
	AlreadyEnded bool          `json:"already_ended,omitempty" doc:"The grant had ended before: nothing is left to end."`
	Rowless      bool          `json:"rowless,omitempty" doc:"The grant has no row: a machine got it for itself. Its tokens end, and all that came from them; none is counted."`
	Exact        bool          `json:"exact" doc:"false: too many to look at each; active_grants counts some that have ended already, and by_client, oldest and newest come from the first of them."`
	AtLeast      bool          `json:"at_least,omitempty" doc:"There are more than active_grants. An end does not wait until all are counted; dry_run counts them."`
	ByClient     []ClientCount `json:"by_client" doc:"The clients with the most grants first, at most 100."`
	Oldest       *time.Time    `json:"oldest,omitempty"`
	Newest       *time.Time    `json:"newest,omitempty"`
	// How long the leak would last if nobody did anything but stop issuing.
	TokensDieIn int64 `json:"tokens_die_in" doc:"Seconds until the last access token would have expired by itself."`
}

// ClientCount counts the grants of one client.
type ClientCount struct {
	ClientID     string `json:"client_id"`
	ActiveGrants int64  `json:"active_grants"`
}

// Revoke ends a token, a grant, or everything older than now of a client, a user, workloads, or at all. With
// DryRun it changes nothing, and says what that would end.
func (a *API) Revoke(ctx context.Context, r Revoke) (Revoked, error) {
	return call[Revoked](ctx, a, operation.Revoke, "", r)
}
