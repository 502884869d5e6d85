package docs

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestListsAreComplete: what the reference lists is what the program has, no
// more and no less.
func TestListsAreComplete(t *testing.T) {
	w := &workplace{dir: t.TempDir()}
	w.env = append(cleanEnv(), "PATH="+binDir+":"+os.Getenv("PATH"))
	w.dev(t, "")
	get := func(address, path string) string {
		response, err := http.Get("http://" + w.ports.Replace(address) + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	const public, admin = "127.0.0.1:8080", "127.0.0.1:9090"
	metadata := get(public, "/.well-known/openid-configuration") // before the metrics, which count it
	_, claims, _ := strings.Cut(read(t, "internal/issue/claims.go"), ") claims() ")
	_, told, _ := strings.Cut(read(t, "docs/reference/tokens.md"), "## Claims of access tokens")
	told, _, _ = strings.Cut(told, "## Claims of UserInfo")
	events := words(source(t, false), `(?m)^\tEvent[A-Za-z]+\s+EventType = "([a-z_.]+)"`)
	for name, c := range map[string]struct{ has, told []string }{
		"metrics": {
			append(words(get(admin, "/metrics"), `(?m)^# HELP (signalbox_[a-z_]+)`),
				words(read(t, "internal/node/metrics.go"), `n\.ofClusters\("(signalbox_[a-z_]+)"`)...), // which dev has none of
			words(read(t, "docs/reference/metrics.md"), "(?m)^\\| `(signalbox_[a-z_]+)`"),
		},
		"journal records": {
			events,
			words(section(read(t, "docs/reference/journal.md"), "## Types"), "`([a-z_]+\\.[a-z_]+)`"),
		},
		"error codes": {
			words(source(t, false), `(?m)^\t[A-Za-z]+\s+Code = "([a-z_]+)"`),
			slices.DeleteFunc(words(read(t, "docs/reference/errors.md"), "`([a-z]+_[a-z_]+)`"), func(w string) bool {
				return w == "request_id" || w == "error_description" || w == "unsupported_response_types" ||
					slices.Contains([]string{"not_found", "method_not_allowed", "already_exists", "read_only"}, w)
			}),
		},
		"endpoints of the public listener": {
			append(words(metadata, `"[a-z_]+(?:endpoint|_uri)":"http://[^/"]+(/[a-z]+)"`),
				"/login", "/consent", "/readyz"),
			words(section(read(t, "docs/reference/endpoints.md"), "## Public listener"), "(?m)^\\|.*?`(/[a-z]+)`", "(?m)^\\| `/[a-z]+`, `(/[a-z]+)`"),
		},
		"claims of access and ID tokens": {
			words(claims, `json:"([a-z_]+)`, `o\.(?:text|number|list|oneOrList|json)\("([a-z_]+)"`),
			slices.DeleteFunc(words(told, "`([a-z_]+)`"), func(w string) bool {
				return slices.Contains([]string{"openid", "offline_access", "profile", "u_", "id_token_signed_response_alg", "user", "client", "workload", "resource", "invalid_target",
					"claims", "email", "name", "value", "unmet_authentication_requirements"}, w) // of the parameter claims
			}),
		},
		"claims of UserInfo": {
			append(words(read(t, "internal/authority/standard_claims.go"), `\{"([a-z_]+)", oauth\.Scope`), words(section(read(t, "internal/authority/standard_claims.go"), "type Address struct"), `json:"([a-z_]+)`)...),
			slices.DeleteFunc(words(section(read(t, "docs/reference/tokens.md"), "## Claims of UserInfo"), "`([a-z_]+)`"), func(w string) bool {
				return w == "sub" || w == "phone" // the scope
			}),
		},
	} {
		for _, word := range c.has {
			if !slices.Contains(c.told, word) {
				t.Errorf("%s: the program has %s, the reference does not tell", name, word)
			}
		}
		for _, word := range c.told {
			if !slices.Contains(c.has, word) {
				t.Errorf("%s: the reference tells of %s, the program has none", name, word)
			}
		}
		if len(c.has) == 0 {
			t.Errorf("%s: nothing was found in the program", name)
		}
	}
}

// words are what the patterns find, each once.
func words(text string, patterns ...string) (all []string) {
	for _, pattern := range patterns {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			if !slices.Contains(all, m[1]) {
				all = append(all, m[1])
			}
		}
	}
	return all
}

// section is the text from a heading to the next of the same depth.
func section(text, heading string) string {
	_, rest, _ := strings.Cut(text, heading)
	depth, _, _ := strings.Cut(heading, " ")
	before, _, _ := strings.Cut(rest, "\n"+depth+" ")
	return before
}
