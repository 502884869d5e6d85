package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// One row for each class of mistake. The golden file is what a person sees.
func TestMistakesShowThePlaceAndTheCure(t *testing.T) {
	rows := []struct {
		name, doc string
		env       []string
		more      []string // clients
	}{
		{name: "unknown_key", doc: with(t, "redirect_uris", "redirect_urls")},
		{name: "unknown_key_of_another_section", doc: good + "access_ttl: 5m\n"},
		{name: "unknown_key_with_secret_value", doc: with(t, "client_id: api", "client_id: api\n    client_secret: hunter2hunter2")},
		{name: "duplicate_key", doc: good + "issuer: https://b.example.com\n"},
		{name: "text_wanted", doc: with(t, "client_id: web", "client_id: 42")},
		{name: "duration_wanted", doc: good + "tokens: {access_ttl: 5, refresh_ttl: 30d}\n"},
		{name: "boolean_wanted", doc: with(t, "username: ada", "username: ada, disabled: maybe")},
		{name: "list_wanted", doc: with(t, `["https://app.example.com/callback"]`, "https://app.example.com/callback")},
		{name: "section_wanted", doc: good + "tokens: 5m\n"},
		{name: "value_out_of_range", doc: good + "tokens:\n  access_ttl: 2h\n  code_ttl: 10m\n"},
		{name: "value_not_in_list", doc: with(t, "refresh_token]", "refresh_tokens]") + "keys: {algorithms: [HS256]}\n"},
		{name: "lifetimes_that_contradict", doc: good + "tokens: {refresh_ttl: 1h, refresh_idle_ttl: 24h}\n"},
		{name: "missing_required", doc: "listen: {public: '127.0.0.1:1'}\nclients:\n  - client_name: Nameless\n"},
		{name: "unresolved_resource", doc: with(t, `resources: ["https://api.example.com"]`, `resources: ["https://api.example.org"]`)},
		{name: "unresolved_client", doc: with(t, "introspection_clients: [api]", "introspection_clients: [ap1]")},
		{name: "scope_of_nobody", doc: with(t, "openid orders:read", "openid orders:reed")},
		{name: "admin_scope_without_admin_resource", doc: with(t, "openid orders:read", "openid clients:write")},
		{name: "duplicate_client", doc: with(t, "client_id: api", "client_id: web")},
		{name: "dangerous_redirect", doc: with(t, "https://app.example.com/callback", "JaVaScRiPt:alert(1)")},
		{name: "issuer_http", doc: with(t, "http://127.0.0.1:8443", "http://sts.example.com")},
		{name: "issuer_slash", doc: with(t, "http://127.0.0.1:8443", "http://127.0.0.1:8443/")},
		{name: "secret_file_missing", doc: with(t, `client_secret_hash: "sha256:`+exampleHash+`"`, "client_secret_file: /nowhere/web.secret")},
		{name: "secret_in_place_of_its_file", doc: with(t, `client_secret_hash: "sha256:`+exampleHash+`"`, "client_secret_file: hunter2hunter2")},
		{name: "secret_of_ours_in_place_of_its_file", doc: with(t, `client_secret_hash: "sha256:`+exampleHash+`"`, "client_secret_file: 'sbx_cs_hunter2hunter2.key'")},
		{name: "secret_in_place_of_its_file_in_a_variable", doc: good, env: []string{"SIGNALBOX_STORAGE_URL_FILE=postgres://sbx:hunter2@db/x"}},
		{name: "listen_number", doc: with(t, `listen: {public: "127.0.0.1:8443"}`, "listen: {public: 8443, admin: 9090}")},
		{name: "listen_port_alone", doc: with(t, `listen: {public: "127.0.0.1:8443"}`, "listen: {public: '8443', admin: '9090'}")},
		{name: "listen_no_port", doc: with(t, `listen: {public: "127.0.0.1:8443"}`, "listen: {public: 99999, admin: localhost}")},
		{name: "public_client_with_secret", doc: with(t, "client_id: web", "client_id: web\n    token_endpoint_auth_method: none")},
		{name: "password_hash_is_a_password", doc: with(t, testHash, "hunter2")},
		{name: "storage_password_hidden", doc: good + "storage: {url: 'postgre://sbx:hunter2@db/x'}\n"},
		{name: "master_key_in_file", doc: good + "secrets: {master_key: hunter2hunter2hunter2}\n"},
		{name: "not_in_this_version", doc: good + "identity_providers:\n  - name: company\n"},
		{name: "policy_to_a_resource_of_nobody", doc: good + "policies:\n  - name: p\n    from: {user_group: sre}\n    to: {resource: 'https://api.example.org'}\n"},
		{name: "federated_credential_of_nobody", doc: good + "clusters:\n  - name: hub\ntrusted_issuers:\n  - {name: github, issuer: https://token.actions.githubusercontent.com}\n", more: []string{
			"{client_id: a, grant_types: [], token_endpoint_auth_method: federated_jwt}",
			"{client_id: b, grant_types: [], token_endpoint_auth_method: federated_jwt, federated_credential: {cluster: hub, namespace: b, service_account: b}}",
			"{client_id: c, grant_types: [], token_endpoint_auth_method: federated_jwt, federated_credential: {trusted_issuer: githup, subject: c}}",
			"{client_id: d, grant_types: [], token_endpoint_auth_method: none, federated_credential: {trusted_issuer: github, subject: d}}",
			"{client_id: e, grant_types: [], token_endpoint_auth_method: federated_jwt, federated_credential: {trusted_issuer: github, subject: 'repo:acme/*'}}",
		}},
		{name: "federated_credential_twice", doc: good + "trusted_issuers:\n  - {name: github, issuer: https://token.actions.githubusercontent.com}\n", more: []string{
			"{client_id: a, grant_types: [], token_endpoint_auth_method: federated_jwt, federated_credential: {trusted_issuer: github, subject: x}}",
			"{client_id: b, grant_types: [], token_endpoint_auth_method: federated_jwt, federated_credential: {subject: x, trusted_issuer: github}}",
		}},
		{name: "alias", doc: "a: &x [1, 2]\nb: *x\n"},
		{name: "syntax_open_bracket", doc: "issuer: https://a.example.com\nlisten: {public: ':8443'\n"},
		{name: "syntax_tab", doc: "listen:\n\tpublic: ':8443'\n"},
		{name: "second_document", doc: "issuer: https://a.example.com\n---\nissuer: https://b.example.com\n"},
		{name: "not_text", doc: "issuer: https://a.example.com\nlisten: \x1b[31m\n"},
		{name: "not_a_section_at_all", doc: "- issuer\n"},
		{name: "environment_unknown", doc: good, env: []string{"SIGNALBOX_TOKEN_ACCESS_TTL=5m"}},
		{name: "environment_bad_value", doc: good, env: []string{"SIGNALBOX_TOKENS_ACCESS_TTL=5"}},
		{name: "environment_both_value_and_file", doc: good, env: []string{"SIGNALBOX_STORAGE_URL=sqlite:/x", "SIGNALBOX_STORAGE_URL_FILE=/x"}},
		{name: "long_line", doc: good + "tokens: {" + strings.Repeat(" ", 150) + "acces_ttl: 5m, " + strings.Repeat(" ", 150) + "}\n"},
	}
	used := map[string]bool{}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			doc := row.doc
			for _, c := range row.more {
				doc = strings.Replace(doc, "clients:\n", "clients:\n  - "+c+"\n", 1)
			}
			_, err := parse(t, doc, row.env...)
			var es Errors
			if !errors.As(err, &es) {
				t.Fatalf("want Errors, got %v", err)
			}
			got := err.Error()
			if strings.Contains(got, "hunter2") || strings.Contains(got, "\x1b") {
				t.Errorf("shows what it must hide:\n%s", got)
			}
			golden := filepath.Join("testdata", row.name+".golden")
			used[golden] = true
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !used[f] {
			t.Errorf("%s belongs to no row", f)
		}
	}
}

func TestAllMistakesAreFoundAtOnce(t *testing.T) {
	doc := strings.NewReplacer("http://127.0.0.1:8443", "ftp://x", "client_id: web", "client_id: web\n    bogus: 1",
		"username: ada", "username: ''").Replace(good)
	_, err := parse(t, doc+"log: {level: loud}\n", "SIGNALBOX_BOGUS=1")
	var es Errors
	if !errors.As(err, &es) || len(es) < 5 {
		t.Fatalf("found %d mistakes:\n%v", len(es), err)
	}
	for i := 1; i < len(es)-1; i++ {
		if es[i].Line < es[i-1].Line {
			t.Errorf("line %d after line %d", es[i].Line, es[i-1].Line)
		}
	}
	if es[len(es)-1].Line != 0 {
		t.Error("the environment does not come last")
	}
}
