package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/test/postgres"
)

// compose is what this test reads of compose.yaml.
type compose struct {
	Services map[string]struct {
		Image       string
		Environment map[string]string
		Secrets     []string
		Volumes     []string
		ReadOnly    bool `yaml:"read_only"`
		Healthcheck struct{ Test []string }
		DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
		Networks    any
	}
	Volumes map[string]any
	Secrets map[string]struct{ File string }
}

// prepared is deploy/compose with the secrets that its script makes.
func prepared(t *testing.T) (dir string, c compose) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "compose")
	if err := os.CopyFS(dir, os.DirFS("../../deploy/compose")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		before, _ := os.ReadFile(filepath.Join(dir, "secrets/master_key"))
		if out, err := exec.Command("sh", filepath.Join(dir, "prepare.sh")).CombinedOutput(); err != nil {
			t.Fatalf("prepare.sh: %v\n%s", err, out)
		}
		after, err := os.ReadFile(filepath.Join(dir, "secrets/master_key"))
		if err != nil || len(before) > 0 && string(before) != string(after) {
			t.Fatalf("prepare.sh made another master key (%v)", err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return dir, c
}

// environment is that of a node, as compose would give it, with the secrets where they are here.
func (c compose) environment(dir, node string) []string {
	var env []string
	for name, value := range c.Services[node].Environment {
		value = strings.ReplaceAll(value, "${SIGNALBOX_HOST:-localhost}", "localhost")
		if secret, is := strings.CutPrefix(value, "/run/secrets/"); is {
			value = filepath.Join(dir, c.Secrets[secret].File)
		}
		env = append(env, name+"="+value)
	}
	return env
}

func TestComposeFile(t *testing.T) {
	dir, c := prepared(t)
	for name, s := range c.Secrets {
		if info, err := os.Stat(filepath.Join(dir, s.File)); err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 {
			t.Errorf("secret %s: %v, %v", name, info, err)
		}
	}
	for name, s := range c.Services {
		for _, secret := range s.Secrets {
			if _, ok := c.Secrets[secret]; !ok {
				t.Errorf("%s: no secret %s", name, secret)
			}
		}
		for _, volume := range s.Volumes {
			from, _, _ := strings.Cut(volume, ":")
			_, named := c.Volumes[from]
			if _, err := os.Stat(filepath.Join(dir, from)); !named && (err != nil || !strings.HasPrefix(from, "./")) {
				t.Errorf("%s: no volume %s", name, from)
			}
		}
		for on := range s.DependsOn {
			if len(c.Services[on].Healthcheck.Test) == 0 {
				t.Errorf("%s waits for %s, which has no health check", name, on)
			}
		}
	}
	for _, node := range []string{"node-1", "node-2"} {
		s := c.Services[node]
		if !s.ReadOnly || !slices.Equal(s.Healthcheck.Test, []string{"CMD", "/usr/bin/signalbox", "healthcheck"}) {
			t.Errorf("%s: %+v", node, s)
		}
		cfg, err := config.Load("", c.environment(dir, node))
		if err != nil {
			t.Fatalf("%s does not start: %v", node, err)
		}
		if cfg.Storage.URL.Engine() != "postgres" || len(cfg.Clients) != 1 || cfg.Listen.Public != ":8443" || len(cfg.TLS.TrustedProxies) != 1 {
			t.Errorf("%s: %+v", node, cfg)
		}
		proxy, err := os.ReadFile(filepath.Join(dir, "Caddyfile"))
		if err != nil || !strings.Contains(string(proxy), node+":8443") {
			t.Errorf("the proxy does not know %s (%v)", node, err)
		}
	}
	networks, _ := c.Services["proxy"].Networks.(map[string]any)
	inside, _ := networks["inside"].(map[string]any)
	if address := inside["ipv4_address"]; address == nil || address.(string)+"/32" != c.Services["node-1"].Environment["SIGNALBOX_TLS_TRUSTED_PROXIES"] {
		t.Errorf("the proxy is at %v, and the nodes trust %s", address, c.Services["node-1"].Environment["SIGNALBOX_TLS_TRUSTED_PROXIES"])
	}
}

// TestComposeTopology: the same two nodes with the same variables, as processes: what
// one issues, the other accepts.
func TestComposeTopology(t *testing.T) {
	dir, c := prepared(t)
	if err := os.WriteFile(filepath.Join(dir, "secrets/storage_url"), []byte(postgres.New(t).String()), 0o600); err != nil {
		t.Fatal(err)
	}
	nodes := map[string][2]string{}
	for _, node := range []string{"node-1", "node-2"} {
		public, admin := freeAddress(t), freeAddress(t)
		nodes[node] = [2]string{public, admin}
		env := append(c.environment(dir, node), "SIGNALBOX_LISTEN_PUBLIC="+public, "SIGNALBOX_LISTEN_ADMIN="+admin,
			"SIGNALBOX_JOURNAL_DIR="+filepath.Join(dir, node), "SIGNALBOX_TLS_TRUSTED_PROXIES=127.0.0.1/32") // this test is the proxy
		p := start(t, dir, env, "serve")
		t.Cleanup(func() { p.stop(syscall.SIGTERM) })
		p.wait(t, "a healthy node", func() bool {
			check := start(t, dir, env, "healthcheck")
			<-check.done
			return check.err == nil
		})
	}
	secret, err := os.ReadFile(filepath.Join(dir, "secrets/operator_secret"))
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodPost, "http://"+nodes["node-1"][0]+"/token",
		strings.NewReader(url.Values{"grant_type": {"client_credentials"}, "resource": {"urn:signalbox:admin"}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("X-Forwarded-Proto", "https")
	request.Header.Set("X-Forwarded-For", "192.0.2.7")
	request.SetBasicAuth("ops", strings.TrimSpace(string(secret)))
	response, err := plainClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Token == "" {
		t.Fatalf("node-1: %s %v", response.Status, err)
	}
	request, err = http.NewRequest(http.MethodGet, "http://"+nodes["node-2"][1]+"/admin/v1/clients", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+answer.Token)
	response, err = plainClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != 200 {
		t.Errorf("node-2 answers the token of node-1 with %s", response.Status)
	}
}
