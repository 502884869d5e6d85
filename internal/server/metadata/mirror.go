package metadata

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

// The mirrors of registered clusters: another cluster can trust the tokens of one that
// it has no route to (`issuer.discoveryURL` of a kube-apiserver). The issuer stays the
// cluster's own, since its tokens have it.

// mirrorMaxAge is short, since a key that its cluster has dropped lives on in copies.
const mirrorMaxAge = time.Minute

// clusterDocument is what a kube-apiserver says of itself in
// /.well-known/openid-configuration.
type clusterDocument struct {
	Issuer                 string   `json:"issuer"`
	JWKSURI                string   `json:"jwks_uri"`
	ResponseTypesSupported []string `json:"response_types_supported"`
	SubjectTypesSupported  []string `json:"subject_types_supported"`
	IDTokenSigningAlgs     []string `json:"id_token_signing_alg_values_supported"`
}

// ClusterDiscovery is GET /clusters/{name}/.well-known/openid-configuration.
func (h *Handler) ClusterDiscovery(w http.ResponseWriter, r *http.Request) {
	cluster, keys, err := h.mirrored(r)
	if err != nil {
		refuseMirror(w, r, err)
		return
	}
	set, err := jose.ParseKeySet(keys)
	if err != nil {
		refuseMirror(w, r, err)
		return
	}
	document := clusterDocument{
		Issuer: cluster.Issuer, JWKSURI: authority.ClusterAudience(h.Document().Issuer, cluster.Name) + "/jwks",
		ResponseTypesSupported: []string{"id_token"}, SubjectTypesSupported: []string{"public"},
	}
	for _, key := range set {
		document.IDTokenSigningAlgs = append(document.IDTokenSigningAlgs, string(key.Algorithm()))
	}
	slices.Sort(document.IDTokenSigningAlgs)
	document.IDTokenSigningAlgs = slices.Compact(document.IDTokenSigningAlgs)
	body, err := json.Marshal(document)
	if err != nil {
		refuseMirror(w, r, err)
		return
	}
	cacheable(w, body, mirrorMaxAge)
}

// ClusterKeySet is GET /clusters/{name}/jwks.
func (h *Handler) ClusterKeySet(w http.ResponseWriter, r *http.Request) {
	_, keys, err := h.mirrored(r)
	if err != nil {
		refuseMirror(w, r, err)
		return
	}
	cacheable(w, keys, mirrorMaxAge)
}

// mirrored is a cluster that has an issuer, and its keys. authority.ErrNotFound.
func (h *Handler) mirrored(r *http.Request) (authority.Cluster, []byte, error) {
	name := r.PathValue("name")
	if !authority.IsClusterName(name) {
		return authority.Cluster{}, nil, authority.ErrNotFound
	}
	cluster, err := h.Cluster(r.Context(), name)
	if err == nil && cluster.Issuer == "" {
		err = authority.ErrNotFound
	}
	if err != nil {
		return authority.Cluster{}, nil, err
	}
	keys, err := h.ClusterKeys(name)
	return cluster, keys, err
}

func refuseMirror(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, authority.ErrNotFound) {
		httpx.NotFound(w, r)
		return
	}
	httpx.Error(w, r, err)
}
