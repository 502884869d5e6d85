package kube

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// The scenarios of Kubernetes, each under its number.

// deploys lets a service account of a namespace of the cluster hub get tokens for the clusters named.
func deploys(hub, namespace string, to ...string) string {
	var b strings.Builder
	b.WriteString("policies:\n")
	for _, cluster := range to {
		fmt.Fprintf(&b, "  - {name: %s-to-%s, from: {cluster: %s, namespace: %s, service_account: orders}, to: {cluster: %s}, groups: [deployers], ttl: 5m}\n", namespace, cluster, hub, namespace, cluster)
	}
	return b.String()
}

const spokes = "  - {name: spoke-a, webhook: {caller: " + apiClient + "}}\n  - {name: spoke-b, webhook: {caller: " + apiClient + "}}\n"

func TestScenario1_AnExchangedTokenIsGoodAtItsClusterAndAtNoOther(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	s := startService(t, "clusters:\n"+clusterEntry(r.Hub, "")+"  - {name: guest-a}\n  - {name: guest-b}\n"+deploys("hub", "scenario-1", "guest-a"))
	guestA, guestB := r.Add(t, "guest-a", rig.Options{}), r.Add(t, "guest-b", rig.Options{})
	trustUs(t, s, guestA)
	trustUs(t, s, guestB)
	pod := startPod(t, r.Hub, "scenario-1")
	token := s.token(t, r.Hub.Token(t, pod, s.Issuer, 0), "guest-a")
	if who, err := whoami(t, guestA, token); err != nil || who != "signalbox:cluster:hub:ns:scenario-1:sa:orders" {
		t.Errorf("on its cluster: %q, %v", who, err)
	}
	if who, err := whoami(t, guestB, token); err == nil || !strings.Contains(err.Error(), "Unauthorized") && !strings.Contains(err.Error(), "must be logged in") {
		t.Errorf("on another cluster: %q, %v", who, err)
	}
	if a := s.exchange(t, r.Hub.Token(t, pod, s.Issuer, 0), "guest-b"); a.Status != 400 || a.Error != "invalid_target" {
		t.Errorf("where no policy leads: %+v", a)
	}
}

func TestScenario2_AnAPIServersTokenIsNoProof(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	s := startService(t, "clusters:\n"+clusterEntry(r.Hub, "")+spokes+deploys("hub", "scenario-2", "spoke-a"))
	pod := startPod(t, r.Hub, "scenario-2")
	own := r.Hub.Token(t, pod, "", 0)
	if a := s.exchange(t, own, "spoke-a"); a.Status != 400 || a.Error != "invalid_request" {
		t.Errorf("%+v", a)
	}
	for _, record := range s.journal(t) {
		if strings.Contains(fmt.Sprint(record), own) || strings.Contains(fmt.Sprint(record), strings.Split(own, ".")[2]) {
			t.Errorf("the journal has the token: %v", record)
		}
	}
}

func TestScenario3And4_ADeletedPodHasNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []struct {
		name, more string
		limit      time.Duration // of the next exchange
	}{{"watched", "", time.Second}, {"reviewed", ", pods: review", 11 * time.Second}} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			r := rig.Start(t)
			namespace := "scenario-3-" + mode.name
			policy := deploys("hub", namespace, "spoke-a")
			if mode.more != "" {
				policy = strings.ReplaceAll(policy, "ttl: 5m", "ttl: 1m")
			}
			s := startService(t, "clusters:\n"+clusterEntry(r.Hub, mode.more)+spokes+policy)
			pod := startPod(t, r.Hub, namespace)
			proof := r.Hub.Token(t, pod, s.Issuer, 0)
			token := s.token(t, proof, "spoke-a")
			if !s.isActive(t, token) {
				t.Fatal("it was never active")
			}
			r.Hub.DeletePod(t, pod, 0)
			// The limits are for a quiet machine; a loaded one gets four times as long.
			if mode.more == "" {
				took := until(t, 4*time.Second, "the token is inactive", func() bool { return !s.isActive(t, token) })
				t.Logf("inactive after %s", took)
			}
			took := until(t, 4*mode.limit, "the next exchange is refused", func() bool {
				a := s.exchange(t, proof, "spoke-a")
				return a.Status == http.StatusBadRequest && a.Error == "invalid_request"
			})
			t.Logf("refused after %s, promised %s", took, mode.limit)
		})
	}
}

func TestScenario5_APodMadeAgainUnderTheSameNameDoesNotReviveTheOldToken(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	s := startService(t, "clusters:\n"+clusterEntry(r.Hub, "")+spokes+deploys("hub", "scenario-5", "spoke-a"))
	first := startPod(t, r.Hub, "scenario-5")
	proof := r.Hub.Token(t, first, s.Issuer, 0)
	token := s.token(t, proof, "spoke-a")
	r.Hub.DeletePod(t, first, 0)
	second := startPod(t, r.Hub, "scenario-5")
	if second.Name != first.Name || second.UID == first.UID {
		t.Fatalf("%+v and %+v", first, second)
	}
	fresh := s.token(t, r.Hub.Token(t, second, s.Issuer, 0), "spoke-a")
	until(t, 4*time.Second, "the old pod's token is inactive", func() bool { return !s.isActive(t, token) })
	if a := s.exchange(t, proof, "spoke-a"); a.Status != 400 {
		t.Errorf("the old pod's proof: %+v", a)
	}
	if !s.isActive(t, fresh) {
		t.Error("the new pod's token is dead")
	}
}

func TestScenario6_ATerminatingPodFollowsItsCluster(t *testing.T) {
	t.Parallel()
	for _, mode := range authority.TerminatingModes() {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := rig.Start(t)
			namespace := "scenario-6-" + mode
			s := startService(t, "clusters:\n"+clusterEntry(r.Hub, ", terminating_pods: "+mode)+spokes+deploys("hub", namespace, "spoke-a"))
			pod := startPod(t, r.Hub, namespace)
			proof := r.Hub.Token(t, pod, s.Issuer, 0)
			token := s.token(t, proof, "spoke-a")
			deadline := r.Hub.DeletePod(t, pod, 8*time.Second)
			dead := func() bool { return !s.isActive(t, token) }
			if mode == string(authority.TerminatingRefuse) {
				until(t, 4*time.Second, "the token is inactive, since deletion was asked for", dead)
				return
			}
			if time.Until(deadline) > 4*time.Second && dead() {
				t.Error("it died before its grace period was over")
			}
			until(t, time.Until(deadline)+5*time.Second, "the token is inactive after the grace period", dead)
			if early := time.Until(deadline); early > time.Second {
				t.Errorf("it died %s before its deadline", early)
			}
			if a := s.exchange(t, proof, "spoke-a"); a.Status != 400 {
				t.Errorf("the next exchange: %+v", a)
			}
		})
	}
}

func TestScenario18_TwoClustersNeverProduceTheSameUser(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	s := startService(t, "clusters:\n"+clusterEntry(r.Hub, "")+clusterEntry(r.SpokeA, "")+"  - {name: far, webhook: {caller: "+apiClient+"}}\n"+
		deploys("hub", "scenario-18", "far")+
		"  - {name: other, from: {cluster: spoke-a, namespace: scenario-18, service_account: orders}, to: {cluster: far}}\n")
	seen := map[string]string{}
	for _, c := range []*rig.Cluster{r.Hub, r.SpokeA} { // both have the default issuer
		pod := startPod(t, c, "scenario-18")
		a := s.post(t, "/introspect", map[string][]string{"token": {s.token(t, c.Token(t, pod, s.Issuer, 0), "far")}}, apiClient, apiSecret)
		if other, twice := seen[a.Subject]; twice || a.Subject != "cluster:"+c.Name+":ns:scenario-18:sa:orders" {
			t.Errorf("%s of %s, and of %s", a.Subject, c.Name, other)
		}
		seen[a.Subject] = c.Name
	}
}
