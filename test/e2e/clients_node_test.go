package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestNodeClients runs npm's openid-client, oauth4webapi and jose against the house.
// Each test in node/ is a subtest here.
func TestNodeClients(t *testing.T) {
	s := atHome(t)
	node := nodeCommand(t)
	private := jwkOf("signer-1", signerKey)
	d, err := signerKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	private["d"] = b64(d)
	type obj = map[string]any
	asJS := func(c client) obj {
		o := obj{"client_id": c.ID, "redirect_uris": c.RedirectURIs}
		if c.Secret != "" {
			o["client_secret"] = c.Secret
		}
		return o
	}
	world, err := json.Marshal(obj{
		"issuer": s.Issuer, "api": api,
		"machine": asJS(machine), "machinePost": asJS(machinePost), "web": asJS(webApp), "native": asJS(nativeApp),
		"resourceServer": asJS(apiServer),
		"signer":         obj{"client_id": "signer", "kid": "signer-1", "jwk": private},
		"ada":            obj{"username": ada.Username, "password": ada.Password},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"openid-client", "oauth4webapi", "jose"} {
		t.Run(script, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), node[0], append(node[1:], "--test-reporter=tap", script+".test.mjs")...)
			cmd.Dir = "node"
			cmd.Env = append(os.Environ(), "SIGNALBOX_E2E="+string(world))
			out, err := cmd.CombinedOutput()
			results := tapResults(string(out))
			for _, r := range results {
				t.Run(r.name, func(t *testing.T) {
					if !r.ok {
						t.Errorf("%s", r.details)
					}
				})
			}
			if len(results) == 0 || (err != nil && !t.Failed()) {
				t.Errorf("node %s: %v\n%s", script, err, out)
			}
		})
	}
}

type tapResult struct {
	name    string
	ok      bool
	details string // the YAML block that follows
}

var tapLine = regexp.MustCompile(`(?m)^(not )?ok \d+ - (.*)$`)

// tapResults reads the top level of node's TAP output.
func tapResults(out string) []tapResult {
	var results []tapResult
	found := tapLine.FindAllStringSubmatchIndex(out, -1)
	for i, at := range found {
		end := len(out)
		if i+1 < len(found) {
			end = found[i+1][0]
		}
		name, _, _ := strings.Cut(out[at[4]:at[5]], " # ")
		results = append(results, tapResult{name, at[2] < 0, out[at[1]:end]})
	}
	return results
}

var npmCI = sync.OnceValues(func() ([]byte, error) {
	cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = "node"
	return cmd.CombinedOutput()
})

// nodeCommand makes sure of Node.js 18 or later and of the locked packages.
func nodeCommand(t *testing.T) []string {
	t.Helper()
	version, err := exec.Command("node", "-p", "process.versions.node").Output()
	major, _ := strconv.Atoi(strings.SplitN(string(version), ".", 2)[0])
	need(t, err == nil && major >= 18, "Node.js 18 or later")
	_, err = exec.LookPath("npm")
	need(t, err == nil, "npm")
	if out, err := npmCI(); err != nil {
		_, missing := os.Stat(filepath.Join("node", "node_modules", "openid-client"))
		need(t, missing == nil, "npm registry: "+string(out))
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if major < 19 {
		return []string{"node", "--experimental-global-webcrypto"}
	}
	return []string{"node"}
}
