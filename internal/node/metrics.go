package node

import (
	"context"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/kube"
	"github.com/signalbox-sts/signalbox/internal/server"
)

// figures are the metrics that are read from the node's parts when somebody
// asks. Their meaning is in docs/reference/metrics.md.
func (n *Node) figures() []server.Figure {
	return []server.Figure{
		{
			Name: "signalbox_build_info", Help: "1, with the build of this node as labels.", Labels: []string{"version", "commit", "go"},
			Read: func(emit func(float64, ...string)) { emit(1, n.version.Version, n.version.Commit, n.version.Go) },
		},
		single("signalbox_ready", "Whether this node can do its work, as /readyz says: 1 or 0.", func() float64 {
			return oneIf(n.ready(context.Background()) == nil)
		}),
		single("signalbox_revocations", "Revocations held in memory.", func() float64 { return float64(n.follower.View.Len()) }),
		single("signalbox_revocation_lag_seconds", "Seconds since this node last heard what is revoked.", func() float64 {
			return n.follower.Lag().Seconds()
		}),
		single("signalbox_logouts_waiting", "Clients that could not be told that a session has ended, and will be tried again.", func() float64 {
			return float64(n.logouts.Waiting())
		}),
		single("signalbox_journal_seq", "Number of the newest journal record.", func() float64 { return float64(n.journal.Head()) }),
		single("signalbox_journal_anchored_seq", "Number of the newest journal record whose hash the database remembers.", func() float64 {
			return float64(n.journal.Anchored())
		}),
		single("signalbox_journal_witnessed_seq", "Number of the newest journal record whose hash the witness has.", func() float64 {
			seq, _ := n.journal.Witnessed()
			return float64(seq)
		}),
		counter("signalbox_journal_witness_failures_total", "How often a head could not be shown to the witness.", func() float64 {
			_, failures := n.journal.Witnessed()
			return float64(failures)
		}),
		{
			Name: "signalbox_database_connections", Help: "Connections to the database by state.", Labels: []string{"state"},
			Read: func(emit func(float64, ...string)) {
				pool := n.db.Pool()
				emit(float64(pool.InUse), "in_use")
				emit(float64(pool.Idle), "idle")
			},
		},
		single("signalbox_database_connections_max", "Most connections to the database at a time.", func() float64 { return float64(n.db.Pool().Max) }),
		counter("signalbox_database_waits_total", "How often somebody had to wait for a connection to the database.", func() float64 {
			return float64(n.db.Pool().Waits)
		}),
		counter("signalbox_database_wait_seconds_total", "Time that was waited for a connection to the database.", func() float64 {
			return n.db.Pool().Waited.Seconds()
		}),
		{
			Name: "signalbox_keys", Help: "Published signing keys by algorithm and state.", Labels: []string{"alg", "state"},
			Read: n.countKeys,
		},
		{
			Name: "signalbox_key_rotation_seconds", Help: "Seconds until the current signing key is due to be replaced; negative when that is overdue.", Labels: []string{"alg"},
			Read: func(emit func(float64, ...string)) {
				for _, key := range n.ring.Keys() {
					if key.State == authority.KeyCurrent {
						emit(key.PromotedAt.Add(n.keySettings().RotateEvery).Sub(n.now()).Seconds(), key.Algorithm)
					}
				}
			},
		},
		n.ofClusters("signalbox_cluster_watched", "Whether some node watches the cluster's pods and hears of them: 1 or 0. Only clusters with pods: watch.", func(s kube.Status) float64 {
			return oneIf(s.Ready)
		}),
		n.ofClusters("signalbox_cluster_watched_here", "Whether this node is the one that watches the cluster's pods: 1 or 0.", func(s kube.Status) float64 { return oneIf(s.Mine) }),
		n.ofClusters("signalbox_cluster_pods", "Pods that this node watches in the cluster.", func(s kube.Status) float64 { return float64(s.Watch.Pods) }),
		n.ofClusters("signalbox_cluster_ends_waiting", "Pods that have ended and whose end is not in the database yet.", func(s kube.Status) float64 { return float64(s.Watch.Waiting) }),
		n.ofClusters("signalbox_cluster_ends_waiting_seconds", "How long the oldest of them has waited.", func(s kube.Status) float64 { return s.Watch.WaitingFor.Seconds() }),
		single("signalbox_config_last_reload_successful", "Whether the newest configuration is in force: 1, or 0 where it was refused.", func() float64 {
			return oneIf(!n.refused.Load())
		}),
		single("signalbox_config_loaded_timestamp_seconds", "When the configuration in force was loaded, in seconds since 1970.", func() float64 {
			return float64(n.current.Load().since.UnixMilli()) / 1e3
		}),
	}
}

// countKeys has a row for every state of every algorithm, so that a key that is
// missing is a 0 and not a series that is gone.
func (n *Node) countKeys(emit func(float64, ...string)) {
	count := map[[2]string]int{}
	for _, alg := range n.keySettings().Algorithms {
		for _, state := range []authority.KeyState{authority.KeyNext, authority.KeyCurrent, authority.KeyRetired} {
			count[[2]string{string(alg), string(state)}] = 0
		}
	}
	for _, key := range n.ring.Keys() {
		count[[2]string{key.Algorithm, string(key.State)}]++
	}
	for labels, keys := range count {
		emit(float64(keys), labels[0], labels[1])
	}
}

// ofClusters is a figure of every cluster whose pods are watched.
func (n *Node) ofClusters(name, help string, read func(kube.Status) float64) server.Figure {
	return server.Figure{Name: name, Help: help, Labels: []string{"cluster"}, Read: func(emit func(float64, ...string)) {
		for _, s := range n.clusters.Status() {
			if s.Pods == authority.PodsWatched {
				emit(read(s), s.Cluster)
			}
		}
	}}
}

// single is a figure without labels.
func single(name, help string, read func() float64) server.Figure {
	return server.Figure{Name: name, Help: help, Read: func(emit func(float64, ...string)) { emit(read()) }}
}

func counter(name, help string, read func() float64) server.Figure {
	f := single(name, help, read)
	f.Counter = true
	return f
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
