package admin

import (
	"context"
	"encoding/json"
	"time"

	"github.com/signalbox-sts/signalbox/internal/operation"
)

// Cluster is a Kubernetes cluster as the API shows it.
type Cluster struct {
	Name                 string          `json:"name"`
	Audience             string          `json:"audience" doc:"The aud of tokens for the cluster."`
	Issuer               string          `json:"issuer,omitempty" doc:"The iss of its service-account tokens. Missing: it is only a place that tokens can be for."`
	JWKS                 json.RawMessage `json:"jwks,omitempty" doc:"Their public keys, where they were pasted."`
	JWKSURI              string          `json:"jwks_uri,omitempty"`
	APIServer            string          `json:"api_server,omitempty"`
	CA                   string          `json:"ca,omitempty" doc:"The certificates that api_server is verified with, as PEM."`
	Credential           string          `json:"credential,omitempty" enum:"in-cluster,self,kubeconfig"`
	Pods                 string          `json:"pods,omitempty" enum:"watch,review,offline"`
	TerminatingPods      string          `json:"terminating_pods,omitempty" enum:"grace,refuse"`
	Audiences            []string        `json:"audiences,omitempty" doc:"What the aud of its tokens may be. Missing: the issuer of this service."`
	WebhookCaller        string          `json:"webhook_caller,omitempty" doc:"The client as which its API server asks /kubernetes/tokenreview."`
	IntrospectionClients []string        `json:"introspection_clients,omitempty"`
	Problems             []Problem       `json:"problems,omitempty" doc:"The rules that it breaks, since they have become stricter: it is off until it is changed."`
	Source               string          `json:"source" enum:"file,database"`
	CreatedAt            *time.Time      `json:"created_at,omitempty"`
	UpdatedAt            *time.Time      `json:"updated_at,omitempty"`
	Status               *ClusterStatus  `json:"status,omitempty" doc:"How it is now, as this node sees it. Only when one is shown."`
}

// ClusterStatus is how a cluster is doing, as one node sees it.
type ClusterStatus struct {
	Node          string     `json:"node" doc:"The node that says so."`
	Reachable     bool       `json:"reachable" doc:"Its API server answers and allows what is needed."`
	ReachFailure  string     `json:"reach_failure,omitempty" doc:"Why not."`
	Watch         string     `json:"watch,omitempty" enum:"up,down,elsewhere" doc:"elsewhere: another node watches. Missing: nobody has to."`
	Watcher       string     `json:"watcher,omitempty" doc:"The node that watches."`
	WatchFailure  string     `json:"watch_failure,omitempty"`
	HeardAt       *time.Time `json:"heard_at,omitempty" doc:"The last sign of life of the watch."`
	LagSeconds    int64      `json:"lag_seconds,omitempty" doc:"How late the last event was."`
	Pods          int        `json:"pods,omitempty" doc:"How many pods are watched."`
	Keys          []string   `json:"keys,omitempty" doc:"The ids of the keys that verify its tokens."`
	KeysFetchedAt *time.Time `json:"keys_fetched_at,omitempty"`
	KeysFailure   string     `json:"keys_failure,omitempty" doc:"Why the last fetch brought nothing, or why a key is not used."`
	Refusal       string     `json:"last_refusal,omitempty" doc:"Why a token of it was refused last."`
	RefusedAt     *time.Time `json:"last_refusal_at,omitempty"`
	Notes         []string   `json:"notes,omitempty" doc:"What is weak about how it is reached."`
}

// ClusterFields is what may be set. What is not sent stays as it is; an empty
// text or list takes a value away.
type ClusterFields struct {
	Issuer               *string          `json:"issuer,omitempty"`
	JWKS                 *json.RawMessage `json:"jwks,omitempty" doc:"A JSON Web Key Set of public keys; {} takes it away."`
	JWKSURI              *string          `json:"jwks_uri,omitempty"`
	APIServer            *string          `json:"api_server,omitempty"`
	CA                   *string          `json:"ca,omitempty" doc:"PEM."`
	Credential           *string          `json:"credential,omitempty" enum:"in-cluster,self"`
	Pods                 *string          `json:"pods,omitempty" enum:"watch,review,offline"`
	TerminatingPods      *string          `json:"terminating_pods,omitempty" enum:"grace,refuse"`
	Audiences            *[]string        `json:"audiences,omitempty"`
	WebhookCaller        *string          `json:"webhook_caller,omitempty"`
	IntrospectionClients *[]string        `json:"introspection_clients,omitempty"`
}

// NewCluster is the body that registers a cluster.
type NewCluster struct {
	Name string `json:"name" doc:"a to z, 0 to 9 and -, at most 63."`
	ClusterFields
}

// TrustedIssuer is another issuer whose tokens count as proof. Only the
// configuration file has them.
type TrustedIssuer struct {
	Name        string          `json:"name"`
	Issuer      string          `json:"issuer,omitempty"`
	TrustDomain string          `json:"trust_domain,omitempty"`
	JWKS        json.RawMessage `json:"jwks,omitempty"`
	JWKSURI     string          `json:"jwks_uri,omitempty"`
	Audiences   []string        `json:"audiences,omitempty"`
	Status      *IssuerStatus   `json:"status,omitempty" doc:"How it is now, as this node sees it. Only when one is shown."`
}

// IssuerStatus is how a trusted issuer is doing, as one node sees it.
type IssuerStatus struct {
	Node          string     `json:"node" doc:"The node that says so."`
	Keys          []string   `json:"keys,omitempty" doc:"The ids of the keys that verify its tokens."`
	KeysFetchedAt *time.Time `json:"keys_fetched_at,omitempty" doc:"When they were fetched last with success. Missing: never, or they are pasted."`
	KeysFailure   string     `json:"keys_failure,omitempty" doc:"Why the last fetch brought nothing, or why a key is not used."`
	Refusal       string     `json:"last_refusal,omitempty" doc:"Why a token of it was refused last."`
	RefusedAt     *time.Time `json:"last_refusal_at,omitempty"`
}

// Policy is a trust policy. Only the configuration file has them.
type Policy struct {
	Name   string     `json:"name"`
	From   PolicyFrom `json:"from"`
	When   string     `json:"when,omitempty" doc:"CEL."`
	To     PolicyTo   `json:"to"`
	Groups []string   `json:"groups,omitempty"`
	TTL    int64      `json:"ttl" doc:"Seconds."`
	Mode   string     `json:"mode" enum:"enforce,audit"`
}

// PolicyFrom says whose proof a policy is about.
type PolicyFrom struct {
	Cluster        string  `json:"cluster,omitempty"`
	Namespace      string  `json:"namespace,omitempty"`
	ServiceAccount string  `json:"service_account,omitempty"`
	TrustedIssuer  string  `json:"trusted_issuer,omitempty"`
	Subject        string  `json:"subject,omitempty"`
	Claims         []Claim `json:"claims,omitempty"`
	UserGroup      string  `json:"user_group,omitempty"`
	Client         string  `json:"client,omitempty"`
	OnBehalfOf     string  `json:"on_behalf_of,omitempty"`
}

// Claim is one claim that a proof must have.
type Claim struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// PolicyTo says what a policy gives.
type PolicyTo struct {
	Cluster  string   `json:"cluster,omitempty"`
	Resource string   `json:"resource,omitempty"`
	Scopes   []string `json:"scopes,omitempty"`
}

// ListClusters lists clusters: those of the configuration file first.
func (a *API) ListClusters(ctx context.Context, p Paging) (Page[Cluster], error) {
	return call[Page[Cluster]](ctx, a, operation.ListClusters, "", nil, p)
}

// CreateCluster registers a cluster. What the workloads of an earlier cluster of this name still have ends.
func (a *API) CreateCluster(ctx context.Context, c NewCluster) (Cluster, error) {
	return call[Cluster](ctx, a, operation.CreateCluster, "", c)
}

// ShowCluster shows a cluster and how it is doing.
func (a *API) ShowCluster(ctx context.Context, name string) (Cluster, error) {
	return call[Cluster](ctx, a, operation.ShowCluster, name, nil)
}

// UpdateCluster changes a cluster: what is sent replaces what was there. If something goes that made its tokens
// good, all that came from them ends.
func (a *API) UpdateCluster(ctx context.Context, name string, f ClusterFields) (Cluster, error) {
	return call[Cluster](ctx, a, operation.UpdateCluster, name, f)
}

// DeleteCluster deletes a cluster, and ends everything that its workloads have.
func (a *API) DeleteCluster(ctx context.Context, name string) error {
	return a.run(ctx, operation.DeleteCluster, name)
}

// ListTrustedIssuers lists the trusted issuers of the configuration file.
func (a *API) ListTrustedIssuers(ctx context.Context, p Paging) (Page[TrustedIssuer], error) {
	return call[Page[TrustedIssuer]](ctx, a, operation.ListTrustedIssuers, "", nil, p)
}

// ShowTrustedIssuer shows a trusted issuer and how it is doing.
func (a *API) ShowTrustedIssuer(ctx context.Context, name string) (TrustedIssuer, error) {
	return call[TrustedIssuer](ctx, a, operation.ShowTrustedIssuer, name, nil)
}

// ListPolicies lists the trust policies of the configuration file.
func (a *API) ListPolicies(ctx context.Context, p Paging) (Page[Policy], error) {
	return call[Page[Policy]](ctx, a, operation.ListPolicies, "", nil, p)
}
