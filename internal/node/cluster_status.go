package node

import (
	"context"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/kube"
	"github.com/signalbox-sts/signalbox/internal/server/admin"
)

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
	if err := n.clusters.Reach(ctx, name); err != nil {
		status.ReachFailure = err.Error()
	} else {
		status.Reachable = true
	}
	s := watched[i]
	status.Notes = s.Notes
	if s.Holder == "" && s.Failure == "" && !s.Mine {
		return status // nobody has to watch, or nobody does yet
	}
	status.Watcher, status.WatchFailure = s.Holder, s.Failure
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
	return status
}

// someTime is nil where there is none.
func someTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
