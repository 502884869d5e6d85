package cli

import (
	"testing"

	"github.com/signalbox-sts/signalbox/internal/doctor"
)

func TestDoctorNamesDangerousClients(t *testing.T) {
	s := newShell(t)
	s.run("doctor").wants(0, "0 found in")
	s.run("client", "create", "old", "--grant-type", "authorization_code", "--redirect-uri", "https://old.example.com/cb", "--require-pkce=false", "-o", "json").wants(0)
	s.run("client", "create", "wide", "--grant-type", "client_credentials", "--allow-multiple-audiences", "-o", "json").wants(0)
	var found []doctor.Finding
	s.run("doctor", "-o", "json").wants(1).into(&found)
	if len(found) != 2 || found[0].Kind != "Client" || found[0].Name != "old" || found[1].Name != "wide" || found[0].Since.IsZero() || found[0].Replace == "" {
		t.Errorf("%+v", found)
	}
	s.run("doctor").wants(1, "client old", "PKCE", "client wide", "several APIs", "instead:", "2 found in")
	s.run("client", "update", "old", "--require-pkce=true").wants(0)
	s.run("client", "update", "wide", "--allow-multiple-audiences=false").wants(0)
	s.run("doctor").wants(0, "0 found in")
	s.run("doctor", "--kube-context", "hub").wants(2, "--kubernetes")
}
