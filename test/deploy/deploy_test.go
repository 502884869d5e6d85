// Package deploy tests what is deployed beside the program: alerts and the
// dashboard, against a running node and against Prometheus' own tool.
package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/node"
)

const (
	alerts    = "../../deploy/prometheus/alerts.yaml"
	ruleTests = "../../deploy/prometheus/alerts_test.yaml"
	dashboard = "../../deploy/grafana/signalbox.json"
)

// promtool is built by `make test` from the module test/promtool.
func promtool(t *testing.T) string {
	t.Helper()
	tool, err := filepath.Abs("../../.cache/tools/promtool")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tool); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI=true, but this machine has no promtool")
		}
		t.Skip("NOT TESTED: this machine has no promtool (make test installs it)")
	}
	return tool
}

func TestAlertsFireWhenTheyShouldAndOnlyThen(t *testing.T) {
	tool := promtool(t)
	for _, args := range [][]string{{"check", "rules", "--lint=all", "--lint-fatal", alerts}, {"test", "rules", ruleTests}} {
		if out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// rules are the alerts by name, with their expressions.
func rules(t *testing.T) map[string]string {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(read(t, alerts), &file); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s does not say what is wrong and what to do", rule.Alert)
			}
			all[rule.Alert] = rule.Expr
		}
	}
	if len(all) == 0 {
		t.Fatal("there are no alerts")
	}
	return all
}

func TestEveryAlertHasATestInWhichItFires(t *testing.T) {
	tests := string(read(t, ruleTests))
	for name := range rules(t) {
		if !strings.Contains(tests, `{labels: '{alertname="`+name+`"}', value: 1}`) {
			t.Errorf("%s has no test in which it fires", name)
		}
	}
	if !strings.Contains(tests, "nothing fires") {
		t.Error("there is no test in which nothing fires")
	}
}

func TestMonitorPageNamesEveryAlert(t *testing.T) {
	page := string(read(t, "../../docs/how-to/monitor.md"))
	told := regexp.MustCompile("`(Signalbox[A-Z]\\w+)`").FindAllStringSubmatch(page, -1)
	for name := range rules(t) {
		if !slices.ContainsFunc(told, func(m []string) bool { return m[1] == name }) {
			t.Errorf("the page does not say what to do about %s", name)
		}
	}
	for _, m := range told {
		if _, there := rules(t)[m[1]]; !there {
			t.Errorf("the page tells of %s, which is none", m[1])
		}
	}
}

func TestAlertsAndDashboardUseMetricsThatThereAre(t *testing.T) {
	var board any
	if err := json.Unmarshal(read(t, dashboard), &board); err != nil {
		t.Fatal(err)
	}
	expressions := append(stringsOf(board, "expr"), stringsOf(board, "query")...)
	for _, expr := range rules(t) {
		expressions = append(expressions, expr)
	}
	page := metrics(t)
	has := map[string]bool{"up": true}
	// The agents' page is made from the program, and its test sees to that.
	agents := regexp.MustCompile("(?m)^\\| `(signalbox_agent_\\w+)` \\|").FindAllStringSubmatch(string(read(t, "../../docs/reference/agent.md")), -1)
	for _, m := range agents {
		has[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(page, -1) {
		has[m[1]] = true
		if m[2] == "histogram" {
			has[m[1]+"_bucket"], has[m[1]+"_sum"], has[m[1]+"_count"] = true, true, true
		}
	}
	used := 0
	for _, expr := range expressions {
		for _, name := range regexp.MustCompile(`\b(?:signalbox|process|go)_\w+|\bup\b`).FindAllString(expr, -1) {
			if used++; !has[name] {
				t.Errorf("%s: there is no metric %s", expr, name)
			}
		}
		for _, m := range regexp.MustCompile(`\btype=~?"([^"]+)"`).FindAllStringSubmatch(expr, -1) {
			for _, eventType := range strings.Split(m[1], "|") {
				if !slices.Contains(authority.EventTypes(), authority.EventType(eventType)) {
					t.Errorf("%s: there is no event %s", expr, eventType)
				}
			}
		}
	}
	if used < 80 {
		t.Errorf("only %d metrics were found in the expressions", used)
	}
	// What is shown nowhere is not looked at.
	everything := strings.Join(expressions, "\n")
	for _, m := range append(regexp.MustCompile(`(?m)^# TYPE (signalbox_\w+) `).FindAllStringSubmatch(page, -1), agents...) {
		if !strings.Contains(everything, m[1]) {
			t.Errorf("neither alert nor dashboard uses %s", m[1])
		}
	}
}

// stringsOf collects the strings under a name anywhere in a document.
func stringsOf(value any, name string) (all []string) {
	switch v := value.(type) {
	case map[string]any:
		for key, inside := range v {
			if s, is := inside.(string); is && key == name {
				all = append(all, s)
			}
			all = append(all, stringsOf(inside, name)...)
		}
	case []any:
		for _, inside := range v {
			all = append(all, stringsOf(inside, name)...)
		}
	}
	return all
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// metrics is /metrics of a running node.
func metrics(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "signalbox.yaml")
	text := "issuer: http://127.0.0.1:1\ntls: {off: true}\nstorage: {url: \"sqlite:" + dir + "/signalbox.db\"}\n" +
		"journal: {dir: " + dir + "/journal}\nsecrets: {master_key_file: " + dir + "/master.key}\n" +
		"clusters: [{name: hub, issuer: https://kubernetes.default.svc, api_server: \"https://127.0.0.1:1\", credential: self}]\n"
	for name, content := range map[string]string{file: text, filepath.Join(dir, "master.key"): keys.GenerateMasterKey().Encode()} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	n, err := node.Open(t.Context(), cfg, node.Options{Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var listeners node.Listeners
	for _, ln := range []*net.Listener{&listeners.Public, &listeners.Admin} {
		if *ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- n.Serve(ctx, listeners, nil) }()
	get := func(path string) string {
		r, err := http.Get("http://" + listeners.Admin.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	get("/livez") // is counted
	page := get("/metrics")
	// A cluster has its series from when its watch begins, just after the node listens.
	for deadline := time.Now().Add(time.Minute); !strings.Contains(page, "signalbox_cluster_watched{"); page = get("/metrics") {
		if time.Now().After(deadline) {
			t.Fatal("the cluster never got its series")
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	return page
}
