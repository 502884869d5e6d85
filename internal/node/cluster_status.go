package node

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/kube"
)

// reachWithin bounds how long somebody who looks at a cluster waits for it.
const reachWithin = 5 * time.Second

// clusterStatus is how a cluster is doing, as this node sees it.
func (n *Node) clusterStatus(ctx context.Context, name string) admin.ClusterStatus {
	status := admin.ClusterStatus{Node: n.journal.Node()}
	keys := n.verifier.Status(name)
	status.Keys, status.KeysFetchedAt, status.KeysFailure = keys.KeyIDs, someTime(keys.FetchedAt), keys.LastError
	status.Refusal, status.RefusedAt = keys.LastRefusal, someTime(keys.LastRefusalAt)
	watched := n.clusters.Status()
	i := slices.IndexFunc(watched, func(s kube.Status) bool { return s.Cluster == name })
	if i < 0 {
		return status // it has no API server that we could ask
	}
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	if err := n.clusters.Reach(ctx, name); err != nil {
		status.ReachFailure = err.Error()
	} else {
		status.Reachable = true
	}
	tellWatch(&status, watched[i])
	return status
}

// issuerStatus is how a trusted issuer is doing, as far as its keys tell.
func (n *Node) issuerStatus(name string) admin.IssuerStatus {
	keys := n.verifier.IssuerStatus(name)
	return admin.IssuerStatus{
		Node: n.journal.Node(), Keys: keys.KeyIDs, KeysFetchedAt: someTime(keys.FetchedAt), KeysFailure: keys.LastError,
		Refusal: keys.LastRefusal, RefusedAt: someTime(keys.LastRefusalAt),
	}
}

// tellWatch adds how the pods are watched. A watch that nobody has is down: it is
// as blind as one that has broken.
func tellWatch(status *admin.ClusterStatus, s kube.Status) {
	status.Notes = s.Notes
	if s.Pods != authority.PodsWatched {
		return
	}
	status.Watcher, _, _ = strings.Cut(s.Holder, " ") // what follows tells one start of a node from the next
	status.WatchFailure = s.Failure
	switch {
	case !s.Ready:
		status.Watch = "down"
	case s.Mine:
		status.Watch = "up"
	default:
		status.Watch = "elsewhere"
	}
	if s.Mine {
		status.HeardAt, status.LagSeconds, status.Pods = someTime(s.Watch.Heard), int64(s.Watch.Lag/time.Second), s.Watch.Pods
		if s.Watch.Failure != "" {
			status.WatchFailure = s.Watch.Failure
		}
	}
}

// someTime is nil where there is none.
func someTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
