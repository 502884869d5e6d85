package cli

import (
	"encoding/pem"
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/signalbox-sts/signalbox/admin"
)

var updateGolden = flag.Bool("update-trust", false, "write testdata/trust again")

const madeUpCertificate = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"

// What the other side gets, byte by byte: a real API server loads the same texts in test/kube.
func TestWhatTheOtherSideGets(t *testing.T) {
	t.Parallel()
	good := trusting{
		Cluster: admin.Cluster{Name: "spoke-a", Audience: "https://sts.example.com/clusters/spoke-a", APIServer: "https://10.0.1.1:6443", CA: madeUpCertificate, WebhookCaller: "spoke-a-apiserver"},
		Us:      "https://sts.example.com", IssuerCA: madeUpCertificate, CAFile: "/home/me/ca.crt", At: "2026-03-01T12:00:00Z",
	}
	public := good
	public.IssuerCA, public.CAFile, public.CA = "", "", ""
	for _, row := range []struct {
		file           string
		t              trusting
		mode, audience string
	}{
		{"jwt", good, "jwt", "kube-apiserver"},
		{"jwt-public", public, "jwt", "kube-apiserver"},
		{"webhook", good, "webhook", "kube-apiserver"},
		{"webhook-public", public, "webhook", "kube-apiserver"},
		{"argocd", good, "jwt", "argocd"},
		{"argocd-public", public, "jwt", "argocd"},
		{"flux", good, "jwt", "flux"},
		{"kubeconfig", good, "jwt", "kubeconfig"},
		{"kubeconfig-public", public, "jwt", "kubeconfig"},
	} {
		text, err := row.t.yaml(row.mode, row.audience)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", "trust", row.file+".yaml")
		if *updateGolden {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || text != string(want) {
			t.Errorf("%s: %v\n%s", row.file, err, text)
		}
	}
	nowhere := public
	nowhere.APIServer, nowhere.WebhookCaller = "", ""
	if _, err := nowhere.yaml("jwt", "argocd"); err == nil || !strings.Contains(err.Error(), "--server") {
		t.Error(err)
	}
	if _, err := nowhere.yaml("webhook", "kube-apiserver"); err == nil || !strings.Contains(err.Error(), "no webhook caller") {
		t.Error(err)
	}
}

// What Flux gets is applied as it is, and what stands there as comments is YAML for whoever needs it.
func TestWhatFluxGetsIsYAML(t *testing.T) {
	t.Parallel()
	text, err := trusting{Cluster: admin.Cluster{Name: "spoke-a", Audience: "https://sts.example.com/clusters/spoke-a", APIServer: "https://10.0.1.1:6443"}, Us: "https://sts.example.com"}.yaml("jwt", "flux")
	if err != nil {
		t.Fatal(err)
	}
	kinds := func(text string) (kinds []string) {
		for document := range strings.SplitSeq(text, "\n---\n") {
			var object struct {
				APIVersion string `yaml:"apiVersion"`
				Kind       string
				Metadata   struct{ Name, Namespace string }
			}
			if err := yaml.Load([]byte(document), &object); err != nil || object.APIVersion == "" || object.Metadata.Name == "" || object.Metadata.Namespace != "flux-system" {
				t.Errorf("%v: %+v in\n%s", err, object, document)
			}
			kinds = append(kinds, object.Kind)
		}
		return kinds
	}
	if got := kinds(text); !slices.Equal(got, []string{"ConfigMap", "Secret"}) {
		t.Error(got)
	}
	var meant []string
	for block := range strings.SplitSeq(text, "#   apiVersion: ") {
		comment, _, _ := strings.Cut("#   apiVersion: "+block, "\n#\n")
		meant = append(meant, strings.ReplaceAll(strings.TrimPrefix(comment, "#   "), "\n#   ", "\n"))
	}
	if got := kinds(strings.Join(meant[1:], "\n---\n")); !slices.Equal(got, []string{"GitRepository", "Receiver"}) {
		t.Error(got)
	}
}

func TestClusterTrust(t *testing.T) {
	s := newShell(t)
	s.run("cluster", "add", "spoke-a", "--webhook-caller", "demo-service").wants(0)
	s.run("cluster", "add", "spoke-b").wants(0)
	s.run("cluster", "trust", "spoke-a").wants(0, "kind: Config", "demo-service", "/kubernetes/tokenreview", "tokenFile")
	s.run("cluster", "trust", "spoke-b").wants(0, "AuthenticationConfiguration", "/clusters/spoke-b", "warning: no API server takes this")
	s.run("cluster", "trust", "spoke-b", "--mode", "webhook").wants(1, "no webhook caller")
	s.run("cluster", "trust", "spoke-b", "--for", "argocd").wants(2, "--server")
	s.run("cluster", "trust", "spoke-b", "--for", "argocd", "--server", "https://10.0.0.1:6443").wants(0, "execProviderConfig", "kube-credential")
	private := httptest.NewTLSServer(nil)
	defer private.Close()
	ca := s.file("issuer.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: private.Certificate().Raw})))
	s.run("cluster", "trust", "spoke-b", "--for", "argocd", "--server", "https://10.0.0.1:6443", "--issuer-ca-file", ca).wants(0, `"--ca-file"`, `"/etc/signalbox/ca.crt"`)
	s.run("cluster", "trust", "spoke-b", "--for", "kubeconfig", "--server", "https://10.0.0.1:6443", "--issuer-ca-file", ca).wants(0, `"--ca-file",`+strconv.Quote(ca))
	s.run("cluster", "trust", "spoke-b", "--mode", "magic").wants(2, "--mode")
	s.run("cluster", "trust", "nosuch").wants(1, "no cluster")
	s.run("cluster", "trust", "spoke-b", "--issuer-ca-file", s.file("x.crt", "none")).wants(1, "no certificate")

	s.run("cluster", "trust", "spoke-b", "--check").wants(0, "ok: discovery and keys")
	s.run("cluster", "trust", "spoke-a", "--check").wants(0, "ok: the webhook refuses a caller without credentials")
	for _, c := range s.ready.Clients {
		if c.ClientID == "demo-service" {
			s.run("cluster", "trust", "spoke-a", "--check", "--caller-secret-file", s.file("secret", c.ClientSecret)).wants(0, "ok: the webhook answers demo-service")
		}
	}
	s.run("cluster", "trust", "spoke-a", "--check", "--caller-secret-file", s.file("wrong", "wrong")).wants(1, "FAILED: the webhook answers")

	s.run("key", "rotate", "ES256", "--emergency").wants(0, "ES256")
	s.run("key", "rotate", "ES256").wants(1, "rotation is possible from")
	s.run("key", "rotate", "ES256", "--emergency").wants(0, "ES256", "signalbox cluster trust spoke-b --mode jwt")
}
