package config

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goodAgent is a configuration of the agent; rows change one thing in it.
const goodAgent = `issuer: https://sts.example.com
listen: {health: "127.0.0.1:9191", socket: /run/signalbox/agent.sock}
tokens:
  - name: spoke-a
    to: {cluster: spoke-a}
    file: {path: /tokens/spoke-a, mode: "0640", owner: "1000:2000"}
    kubeconfig: {path: /tokens/spoke-a.kubeconfig, server: "https://10.0.1.1:6443"}
    on_change: ["/usr/bin/systemctl", reload, app]
  - name: orders
    from: {client_id: orders, client_secret_file: orders.secret}
    to: {resource: "https://api.example.com", scopes: [orders:read]}
    socket: {uids: [0, 1000]}
`

func TestTheAgentsFileIsRead(t *testing.T) {
	a, err := ParseAgent("/etc/signalbox/agent.yaml", []byte(goodAgent))
	if err != nil {
		t.Fatal(err)
	}
	first, second := a.Tokens[0], a.Tokens[1]
	if f := first.File; f.Path != "/tokens/spoke-a" || f.Perm != 0o640 || f.UID != 1000 || f.GID != 2000 {
		t.Errorf("%+v", f)
	}
	if k := first.Kubeconfig; k.Perm != 0o600 || k.UID != -1 || k.GID != -1 {
		t.Errorf("%+v", k)
	}
	if first.From.SubjectTokenFile != "/var/run/secrets/signalbox/token" || second.From.SubjectTokenFile != "" {
		t.Error("the proof of a workload is in the file of the contract, and a client needs none")
	}
	if second.From.ClientSecretFile != "/etc/signalbox/orders.secret" {
		t.Errorf("a relative path does not start at the file: %s", second.From.ClientSecretFile)
	}
	if uids := second.Socket.UIDs; len(uids) != 2 || uids[0] != 0 || uids[1] != 1000 {
		t.Errorf("uids: %v", uids)
	}
}

func TestAWrongAgentsFileSaysWhereAndWhatHelps(t *testing.T) {
	for _, row := range []struct{ sentence, old, new, want string }{
		{"unknown key", `mode: "0640"`, `mod: "0640"`, `agent.yaml:6:35: tokens[0].file.mod: unknown key|did you mean mode?`},
		{"no issuer", "issuer: https://sts.example.com\n", "", "issuer: is missing"},
		{"an issuer in the open", "https://sts", "http://sts", "http is accepted only for a loopback address"},
		{"no target", "    to: {cluster: spoke-a}\n", "", "tokens[0].to: needs a cluster or a resource"},
		{"two targets", "{cluster: spoke-a}", `{cluster: spoke-a, resource: "https://a"}`, "needs a cluster or a resource, one of the two"},
		{"a cluster by its URL", "{cluster: spoke-a}", `{cluster: "https://10.0.0.1"}`, "is not the name of a cluster"},
		{"a cluster with scopes", "{cluster: spoke-a}", `{cluster: spoke-a, scopes: [a]}`, "tokens for a cluster have no scopes"},
		{"a client for a cluster", `{resource: "https://api.example.com", scopes: [orders:read]}`, "{cluster: spoke-a}", "only a workload gets tokens for a cluster"},
		{"a resource without a scheme", `"https://api.example.com"`, "api", "is not the identifier of a resource"},
		{"two scopes in one", "[orders:read]", `["a b"]`, "tokens[1].to.scopes[0]: \"a b\" is not a scope"},
		{"a client without its secret", ", client_secret_file: orders.secret", "", "client_secret_file: is missing"},
		{"a secret without its client", "client_id: orders, ", "", "belongs to a client_id, which is missing"},
		{"a client and a workload", "client_id: orders,", "client_id: orders, subject_token_file: x,", "is there beside subject_token_file"},
		{"no output", "    socket: {uids: [0, 1000]}\n", "", "the token would go nowhere"},
		{"a socket for nobody", "[0, 1000]", "[]", "tokens[1].socket.uids: is missing"},
		{"a user by name", "[0, 1000]", "[app]", "expected a number, found text"},
		{"a user that is none", "[0, 1000]", "[4294967295]", "expected a number from 0"},
		{"a user twice", "[0, 1000]", "[7, 7]", "is in the list twice"},
		{"a socket that nobody listens on", ", socket: /run/signalbox/agent.sock", "", "there is no socket"},
		{"a mode without quotes", `"0640"`, "0640", `expected text, found the number 0640|put it in quotes: "0640"`},
		{"a mode that others can write", `"0640"`, `"0660"`, "lets others change it"},
		{"a mode that its owner cannot read", `"0640"`, `"0040"`, "its owner could not read it"},
		{"a mode that is none", `"0640"`, `"rw-r-----"`, "is not a mode"},
		{"an owner by name", `"1000:2000"`, `"app"`, "is not a user"},
		{"a path twice", "/tokens/spoke-a.kubeconfig", "/tokens/../tokens/spoke-a", "is written by tokens[0].file.path already"},
		{"the configuration itself", "/tokens/spoke-a.kubeconfig", "agent.yaml", "is a file that the agent reads"},
		{"the secret", "/tokens/spoke-a.kubeconfig", "orders.secret", "is a file that the agent reads"},
		{"the proof", "/tokens/spoke-a.kubeconfig", "/var/run/secrets/signalbox/token", "is a file that the agent reads"},
		{"a file without its path", "path: /tokens/spoke-a, ", "", "tokens[0].file.path: is missing"},
		{"a kubeconfig without its server", `, server: "https://10.0.1.1:6443"`, "", "kubeconfig.server: is missing"},
		{"a server in the open", "https://10.0", "http://10.0", "is not the URL of an API server"},
		{"a program by its name alone", "/usr/bin/systemctl", "systemctl", "is not the absolute path of a program"},
		{"nothing that changes", "    socket: {uids: [0, 1000]}\n", "    socket: {uids: [1]}\n    on_change: [/bin/true]\n", "there is nothing that changes"},
		{"a name twice", "name: orders", "name: spoke-a", "tokens[1].name"},
		{"a name with a slash", "name: orders", "name: a/b", "is not a name"},
		{"a long path of a socket", "/run/signalbox/agent.sock", "/" + strings.Repeat("x", 104), "is longer than the 103 bytes"},
		{"health without a port", `"127.0.0.1:9191"`, "localhost", "listen.health: expected host:port"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			doc := strings.Replace(goodAgent, row.old, row.new, 1)
			if doc == goodAgent {
				t.Fatal("the row changes nothing")
			}
			_, err := ParseAgent("agent.yaml", []byte(doc))
			var found Errors
			if !errors.As(err, &found) {
				t.Fatalf("accepted, or no Errors: %v", err)
			}
			for want := range strings.SplitSeq(row.want, "|") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("it does not say %q:\n%v", want, err)
				}
			}
			if len(found) > 1 {
				t.Errorf("one mistake, %d complaints:\n%v", len(found), err)
			}
		})
	}
}

func TestLoadAgentKnowsTheFilesThatAReloadMustWatch(t *testing.T) {
	dir := t.TempDir()
	file, ca := filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "ca.crt")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(file, goodAgent+"ca_file: ca.crt\n")
	_, err := LoadAgent(file)
	if err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Fatal(err)
	}
	files := FilesOf(err)
	write(ca, "no certificate\n")
	if !Changed(files) {
		t.Error("a file that is there at last is no change")
	}
	if _, err = LoadAgent(file); err == nil || !strings.Contains(err.Error(), "has no certificate") {
		t.Error(err)
	}
}

func TestTheAgentsSchemaTakesItsFile(t *testing.T) {
	var s struct {
		Properties map[string]any `json:"properties"`
	}
	if err := json.Unmarshal(AgentSchema(), &s); err != nil || s.Properties["tokens"] == nil {
		t.Fatal(err)
	}
	for _, key := range AgentKeys() {
		text, err := ExplainAgent(key)
		if err != nil || strings.Contains(text, "environment") {
			t.Errorf("%s: %v %s", key, err, text)
		}
	}
	if _, err := ExplainAgent("tokens.fiel"); err == nil || !strings.Contains(err.Error(), "tokens.file") {
		t.Error(err)
	}
}

func FuzzParseAgent(f *testing.F) {
	f.Add([]byte(goodAgent))
	f.Add([]byte("tokens: [{socket: {uids: [1, 0x7, -1, 1_0]}, on_change: []}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "ca_file") { // no file of this machine may matter
			return
		}
		a, err := ParseAgent("f.yaml", data)
		if (a == nil) == (err == nil) {
			t.Fatalf("%v %v", a, err)
		}
		if err == nil {
			for _, token := range a.Tokens {
				if token.Name == "" || (token.To.Cluster == "") == (token.To.Resource == "") {
					t.Fatalf("accepted: %+v", token)
				}
			}
		}
	})
}

// Whoever asks the issuer from a pod of his own needs the certificates there.
func TestAPrivateIssuerIsToldToThePluginsOfOthers(t *testing.T) {
	for file, want := range map[string]string{"": "", "/etc/agent/ca.crt": "/etc/signalbox/ca.crt"} {
		a := Agent{Issuer: "https://sts.example.com", CAFile: file}
		if got := a.Target("spoke-a"); got.CAFile != want || got.Issuer != a.Issuer || got.Cluster != "spoke-a" {
			t.Errorf("ca_file %q: %+v", file, got)
		}
	}
}
