package secret

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	at     = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	target = Target{Issuer: "https://sts.example.com", Cluster: "spoke-a"}
	token  = Token{Value: "the-token", Expires: at}
	ca     = func() string {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		der, _ := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, key.Public(), key)
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}()
)

func render(t *testing.T, s Spec) Rendered {
	t.Helper()
	if problems := s.Check(target); len(problems) > 0 {
		t.Fatalf("%+v", problems)
	}
	r, err := s.Render(target, token)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// texts are the data of a Secret.
func (r Rendered) texts() map[string]string {
	all := map[string]string{}
	for k, v := range r.Data {
		all[k] = string(v)
	}
	return all
}

func TestEachKindIsWhatItsReaderReads(t *testing.T) {
	for sentence, row := range map[string]struct {
		spec   Spec
		kind   string
		labels map[string]string
		data   map[string]string
	}{
		"a repository of Argo CD with a bearer token": {Spec{Kind: ArgoCDRepository, URL: "https://git.example.com/a.git", Project: "shop"},
			"Opaque", map[string]string{"argocd.argoproj.io/secret-type": "repository"},
			map[string]string{"type": "git", "url": "https://git.example.com/a.git", "project": "shop", "bearerToken": "the-token"}},
		"a repository of Argo CD with a password": {Spec{Kind: ArgoCDRepository, URL: "charts.example.com/shop", Type: "helm", Username: "robot"},
			"Opaque", map[string]string{"argocd.argoproj.io/secret-type": "repository"},
			map[string]string{"type": "helm", "url": "charts.example.com/shop", "username": "robot", "password": "the-token"}},
		"Git for Flux with a bearer token": {Spec{Kind: Git, CA: ca}, "Opaque", map[string]string{}, map[string]string{"bearerToken": "the-token", "ca.crt": ca}},
		"Git for Flux with a password":     {Spec{Kind: Git, Username: "robot"}, "Opaque", map[string]string{}, map[string]string{"username": "robot", "password": "the-token"}},
		"a pull secret": {Spec{Kind: Docker, Registry: "registry.example.com:5000"}, "kubernetes.io/dockerconfigjson", map[string]string{},
			map[string]string{".dockerconfigjson": `{"auths":{"registry.example.com:5000":{"auth":"c2lnbmFsYm94OnRoZS10b2tlbg==","password":"the-token","username":"signalbox"}}}`}},
		"a Secret for others": {Spec{Kind: Opaque}, "Opaque", map[string]string{}, map[string]string{"token": "the-token"}},
		"a Secret for others with templates": {Spec{Kind: Opaque, Data: map[string]string{
			".netrc": "machine api.example.com login x password {{.Token}}\n", "until": "{{ .ExpiresAt -}}  ", "who.json": `{"iss":{{.Issuer | json}},"b":"{{.Token | base64}}"}`, "none": "",
		}}, "Opaque", map[string]string{}, map[string]string{
			".netrc": "machine api.example.com login x password the-token\n", "until": "2026-05-01T12:00:00Z", "who.json": `{"iss":"https://sts.example.com","b":"dGhlLXRva2Vu"}`, "none": "",
		}},
	} {
		r := render(t, row.spec)
		if r.Type != row.kind || !maps.Equal(r.Labels, row.labels) || !maps.Equal(r.texts(), row.data) || !r.Expires {
			t.Errorf("%s: %s %v %q", sentence, r.Type, r.Labels, r.texts())
		}
	}
}

func TestAKubeconfigForFluxHasTheTokenInline(t *testing.T) {
	r := render(t, Spec{Kind: FluxKubeconfig, Server: "https://10.0.1.1:6443", CA: ca})
	var k struct {
		Current  string `json:"current-context"`
		Clusters []struct {
			Name    string
			Cluster map[string]string
		}
		Users []struct {
			Name string
			User map[string]string
		}
		Contexts []struct {
			Name    string
			Context map[string]string
		}
	}
	if err := json.Unmarshal(r.Data["value"], &k); err != nil {
		t.Fatal(err)
	}
	if k.Current != "spoke-a" || k.Contexts[0].Name != "spoke-a" || k.Contexts[0].Context["user"] != k.Users[0].Name || k.Contexts[0].Context["cluster"] != k.Clusters[0].Name {
		t.Errorf("%+v", k)
	}
	if u := k.Users[0].User; len(u) != 1 || u["token"] != "the-token" {
		t.Errorf("the user is %v", u)
	}
	if c := k.Clusters[0].Cluster; c["server"] != "https://10.0.1.1:6443" || c["certificate-authority-data"] == "" {
		t.Errorf("the cluster is %v", c)
	}
	if r.Labels["reconcile.fluxcd.io/watch"] != "Enabled" {
		t.Errorf("Flux is not told: %v", r.Labels)
	}
}

// Argo CD lists a whole cluster again when the config of its Secret changes.
func TestAClusterOfArgoCDHasNoTokenAndNeverChanges(t *testing.T) {
	s := Spec{Kind: ArgoCDCluster, Server: "https://10.0.1.1:6443", CA: ca}
	r := render(t, s)
	later, err := s.Render(target, Token{Value: "another", Expires: at.Add(time.Hour)})
	if err != nil || !maps.Equal(r.texts(), later.texts()) || r.Expires || later.Expires {
		t.Errorf("with another token it is another Secret: %v", err)
	}
	var config struct {
		Bearer string `json:"bearerToken"`
		Exec   struct {
			APIVersion, Command string
			Args                []string
		} `json:"execProviderConfig"`
		TLS struct {
			Insecure bool
			CAData   []byte
		} `json:"tlsClientConfig"`
	}
	if err := json.Unmarshal(r.Data["config"], &config); err != nil {
		t.Fatal(err)
	}
	if config.Bearer != "" || config.Exec.Command != "signalbox" || config.Exec.APIVersion != "client.authentication.k8s.io/v1" ||
		strings.Join(config.Exec.Args, " ") != "kube-credential --issuer https://sts.example.com --cluster spoke-a" || config.TLS.Insecure || string(config.TLS.CAData) != ca {
		t.Errorf("config is %s", r.Data["config"])
	}
	to := target
	to.CAFile = CAInPods // the issuer's certificate is private
	if r, err = s.Render(to, Token{}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(r.Data["config"]), `"--cluster","spoke-a","--ca-file","/etc/signalbox/ca.crt"],`) {
		t.Errorf("config is %s", r.Data["config"])
	}
	if r.Labels["argocd.argoproj.io/secret-type"] != "cluster" || string(r.Data["name"]) != "spoke-a" || string(r.Data["server"]) != s.Server {
		t.Errorf("%v %q", r.Labels, r.texts())
	}
}

func TestWhatCannotBeRenderedIsNamed(t *testing.T) {
	resource := Target{Issuer: target.Issuer}
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))
	for _, row := range []struct {
		sentence string
		spec     Spec
		to       Target
		want     string
	}{
		{"an unknown kind", Spec{Kind: "argo"}, target, "Kind"},
		{"a kubeconfig without a server", Spec{Kind: FluxKubeconfig}, target, "Server"},
		{"a kubeconfig for a resource", Spec{Kind: FluxKubeconfig, Server: "https://10.0.1.1"}, resource, "Kind"},
		{"a server in the clear", Spec{Kind: FluxKubeconfig, Server: "http://10.0.1.1"}, target, "Server"},
		{"a private key beside the certificates", Spec{Kind: Git, CA: ca + key}, target, "CA"},
		{"a certificate that is none", Spec{Kind: Git, CA: "ca.crt"}, target, "CA"},
		{"a certificate with words behind it", Spec{Kind: Git, CA: ca + "end"}, target, "CA"},
		{"a bundle without an end", Spec{Kind: Git, CA: strings.Repeat(ca, 200)}, target, "CA"},
		{"a repository without URL", Spec{Kind: ArgoCDRepository}, target, "URL"},
		{"a repository in the clear", Spec{Kind: ArgoCDRepository, URL: "http://git.example.com/a"}, target, "URL"},
		{"a repository with a password in its URL", Spec{Kind: ArgoCDRepository, URL: "https://x:y@git.example.com/a"}, target, "URL"},
		{"a repository over SSH", Spec{Kind: ArgoCDRepository, URL: "git@git.example.com:a"}, target, "URL"},
		{"a type of repository that is none", Spec{Kind: ArgoCDRepository, URL: "https://git.example.com/a", Type: "svn"}, target, "Type"},
		{"a chart repository without a user", Spec{Kind: ArgoCDRepository, URL: "https://git.example.com/a", Type: "helm"}, target, "Username"},
		{"a member of another kind", Spec{Kind: Git, Server: "https://10.0.1.1"}, target, "Server"},
		{"templates of another kind", Spec{Kind: Git, Data: map[string]string{"a": "b"}}, target, "Data"},
		{"a user name with a colon", Spec{Kind: Git, Username: "a:b"}, target, "Username"},
		{"a user name with a line break", Spec{Kind: Git, Username: "a\nb"}, target, "Username"},
		{"no registry", Spec{Kind: Docker}, target, "Registry"},
	} {
		var got []string
		for _, p := range row.spec.Check(row.to) {
			got = append(got, p.Member)
		}
		if !slices.Contains(got, row.want) || len(got) != 1 {
			t.Errorf("%s: %q", row.sentence, row.spec.Check(row.to))
		}
	}
}

func TestATemplateIsTextWithPlaceholders(t *testing.T) {
	for sentence, text := range map[string]string{
		"a condition":                "{{if .Token}}x{{end}}",
		"a loop":                     "{{range .Token}}x{{end}}",
		"a function that makes much": `{{printf "%1000000s" .Token}}`,
		"a function behind a pipe":   `{{.Token | printf "%1000000s"}}`,
		"a function of the package":  "{{.Token | len}}",
		"a call":                     "{{call .Token}}",
		"a literal":                  `{{"x"}}`,
		"a variable":                 "{{$x := .Token}}",
		"a field that is none":       "{{.Secret}}",
		"a field of a field":         "{{.Token.Value}}",
		"everything":                 "{{.}}",
		"a chain":                    "{{(.Token)}}",
		"another template":           `{{define "x"}}y{{end}}`,
		"a template in a template":   `{{template "x"}}`,
		"broken":                     "{{.Token",
	} {
		if _, err := parsed(map[string]string{"key": text}); err == nil {
			t.Errorf("%s is taken", sentence)
		} else if strings.Contains(err.Error(), "1000000") {
			t.Errorf("%s: the template is in %q", sentence, err)
		}
	}
	many := map[string]string{}
	for i := range maxKeys + 1 {
		many[fmt.Sprint("key", i)] = ""
	}
	for sentence, data := range map[string]map[string]string{
		"a key with a slash": {"a/b": ""}, "a key that is a folder": {"..": ""}, "no key": {"": ""},
		"too many keys": many, "too long": {"a": strings.Repeat("x", maxTemplates)},
	} {
		if _, err := parsed(data); err == nil {
			t.Errorf("%s is taken", sentence)
		}
	}
}

func TestTheSecretOfATemplateIsBounded(t *testing.T) {
	s := Spec{Kind: Opaque, Data: map[string]string{"a": strings.Repeat("{{.Token}}", 800), "b": strings.Repeat("{{.Token}}", 800)}}
	if problems := s.Check(target); len(problems) > 0 {
		t.Fatal(problems)
	}
	if _, err := s.Render(target, Token{Value: strings.Repeat("x", 170)}); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("%v", err)
	}
	if _, err := s.Render(target, Token{Value: strings.Repeat("x", 150)}); err != nil {
		t.Error(err)
	}
}

func TestATokenDoesNotPrint(t *testing.T) {
	if text := fmt.Sprintf("%v %+v %#v %s", token, token, token, token); strings.Contains(text, "the-token") {
		t.Error(text)
	}
}

// Whatever is accepted is rendered within its limit, and nothing of it runs.
func FuzzTemplate(f *testing.F) {
	f.Add("key", "{{.Token | base64 | json}} {{- .Issuer -}}")
	f.Add("k", `{{if .Token}}{{printf "%9999d" 1}}{{end}}`)
	f.Fuzz(func(t *testing.T, key, text string) {
		s := Spec{Kind: Opaque, Data: map[string]string{key: text}}
		if len(s.Check(target)) > 0 {
			return
		}
		r, err := s.Render(target, token)
		if err != nil {
			return
		}
		if n := len(r.Data[key]); n > maxOutput || len(r.Data) != 1 {
			t.Errorf("%d bytes", n)
		}
		if !strings.Contains(text, "{{") && string(r.Data[key]) != text {
			t.Errorf("%q became %q", text, r.Data[key])
		}
	})
}
