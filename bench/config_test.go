//go:build linux

package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/trust"
)

// The service must accept what the bench writes, also after its configuration
// has changed.
func TestTheServiceAcceptsTheConfiguration(t *testing.T) {
	for _, storage := range []string{"sqlite:/var/lib/signalbox/signalbox.db", "postgres://bench@127.0.0.1:5432/sqlite?sslmode=disable"} {
		b := &bench{dir: t.TempDir()}
		e, err := b.newEnv("sqlite")
		if err != nil {
			t.Fatal(err)
		}
		e.storage = storage
		if err := e.writeConfig(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(e.dir, "signalbox.yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.Parse(file, text, nil); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}

// The proofs must be ones that the service takes, no two alike, and of a
// bounded number of pods.
func TestTheServiceAcceptsTheProofs(t *testing.T) {
	hub, err := newHub()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{dir: t.TempDir(), hub: hub}
	e, err := b.newEnv("workloads")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.writeWorkloads(e); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(e.dir, "signalbox.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(file, text, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	verifier := trust.New(trust.Options{Issuer: e.issuer, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	var clusters []authority.Cluster
	for i := range c.Clusters {
		cluster, err := authority.NewCluster(c.Clusters[i].ClusterMetadata)
		if err != nil {
			t.Fatal(err)
		}
		clusters = append(clusters, cluster)
	}
	if err := verifier.Use(clusters, nil); err != nil {
		t.Fatal(err)
	}
	ids, pods := map[string]bool{}, map[string]bool{}
	for range 2 {
		proofs, err := hub.proofs(podCount/2 + 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range proofs {
			proof, err := verifier.Verify(context.Background(), raw)
			if err != nil {
				t.Fatal(err)
			}
			ids[proof.ID], pods[proof.Pod.UID] = true, true
		}
	}
	if len(ids) != podCount+20 || len(pods) != podCount {
		t.Errorf("%d ids, %d pods", len(ids), len(pods))
	}
}
