package agent

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/signalbox-sts/signalbox/internal/config"
)

// kubeconfigOf writes a kubeconfig (v1). With a file for the token it names that: who
// runs for long reads it again. Every value is JSON, which is YAML.
func kubeconfigOf(t config.AgentToken) func(token string) []byte {
	name := quoted(t.Name)
	return func(token string) []byte {
		var b bytes.Buffer
		b.WriteString("# Written by signalbox agent, which replaces it: do not edit.\napiVersion: v1\nkind: Config\n")
		fmt.Fprintf(&b, "clusters:\n  - name: %s\n    cluster:\n      server: %s\n", name, quoted(t.Kubeconfig.Server))
		if len(t.Kubeconfig.CA) > 0 {
			fmt.Fprintf(&b, "      certificate-authority-data: %s\n", base64.StdEncoding.EncodeToString(t.Kubeconfig.CA))
		}
		fmt.Fprintf(&b, "users:\n  - name: %s\n    user:\n", name)
		if t.File.Path != "" {
			fmt.Fprintf(&b, "      tokenFile: %s\n", quoted(t.File.Path))
		} else {
			fmt.Fprintf(&b, "      token: %s\n", quoted(token))
		}
		fmt.Fprintf(&b, "contexts:\n  - name: %s\n    context: {cluster: %[1]s, user: %[1]s}\ncurrent-context: %[1]s\n", name)
		return b.Bytes()
	}
}

func quoted(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a text
	return string(bytes.TrimRight(b.Bytes(), "\n"))
}
