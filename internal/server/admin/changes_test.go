package admin_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// changesOf are those of the newest events of one request, "field: old -> new" each.
func (s *service) changesOf(since int) (list []string) {
	for _, e := range s.events()[since:] {
		if len(e.Changes) > authority.MaxChanges {
			s.Errorf("%d changes in one event", len(e.Changes))
		}
		for _, c := range e.Changes {
			list = append(list, c.Field+": "+c.Old+" -> "+c.New)
		}
	}
	return list
}

// The journal says what was changed: the field, what was there and what is there now.
func TestTheJournalSaysWhatWasChanged(t *testing.T) {
	s := newService(t)
	token := s.admin()
	created := s.createClient("job")
	bob := s.createUser("bob")
	secret, err := authority.Clients(s.DB).Get(t.Context(), "job")
	if err != nil {
		t.Fatal(err)
	}
	first := fmt.Sprintf("sha256:%x", secret.Secrets[0].Hash[:16])
	s.call(token, "POST", "/resources", object{"id": "urn:x:files", "scopes": []string{"files"}}).wants(http.StatusCreated)
	for _, row := range []struct {
		name, method, path string
		body               any
		want               []string
	}{
		{"a name", "PATCH", "/clients/job", object{"client_name": "Job"}, []string{"client_name:  -> Job"}},
		{"another name", "PATCH", "/clients/job", object{"client_name": "Night job"}, []string{"client_name: Job -> Night job"}},
		{"a scope and a redirect URI more", "PATCH", "/clients/job", object{"scope": "orders:read orders:write", "redirect_uris": []string{"https://a.example.com/"}},
			[]string{"redirect_uris:  -> https://a.example.com/", "scope:  -> orders:write"}},
		{"another redirect URI", "PATCH", "/clients/job", object{"redirect_uris": []string{"https://b.example.com/"}},
			[]string{"redirect_uris: https://a.example.com/ -> ", "redirect_uris:  -> https://b.example.com/"}},
		{"nothing", "PATCH", "/clients/job", object{"client_name": "Night job"}, nil},
		{"a danger", "PATCH", "/clients/job", object{"allow_multiple_audiences": true}, []string{"allow_multiple_audiences:  -> true"}},
		{"another danger", "PATCH", "/clients/job", object{"require_pkce": false}, []string{"require_pkce:  -> false"}},
		{"the danger taken back", "PATCH", "/clients/job", object{"require_pkce": true}, []string{"require_pkce: false -> "}},
		{"disabled", "POST", "/clients/job/disable", nil, []string{"disabled:  -> true"}},
		{"enabled", "POST", "/clients/job/enable", nil, []string{"disabled: true -> "}},
		{"a new secret", "POST", "/clients/job/secret", object{}, []string{"client_secrets: " + first + " -> ", "client_secrets:  -> sha256:…"}},
		{"no secret any more", "PATCH", "/clients/job", object{"token_endpoint_auth_method": "none", "grant_types": []string{"authorization_code"}},
			[]string{"client_secrets: sha256:… -> ", "grant_types: client_credentials -> ", "grant_types:  -> authorization_code", "token_endpoint_auth_method: client_secret_basic -> none"}},
		{"a password", "POST", "/users/" + bob.UserID + "/password", object{"password": "battery staple"}, []string{"password_hash: sha256:… -> sha256:…"}},
		{"a user disabled", "POST", "/users/" + bob.UserID + "/disable", nil, []string{"disabled:  -> true"}},
		{"a user enabled", "POST", "/users/" + bob.UserID + "/enable", nil, []string{"disabled: true -> "}},
		{"a resource's life", "PATCH", "/resources/urn:x:files", object{"access_ttl": 60, "scopes": []string{"more"}},
			[]string{"access_ttl:  -> 60", "scopes: files -> ", "scopes:  -> more"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.T = t
			before := len(s.events())
			if got := s.call(s.admin(), row.method, row.path, row.body); got.status >= 300 {
				t.Fatalf("%d %s", got.status, got.body)
			}
			var got []string
			for _, text := range s.changesOf(before) {
				got = append(got, hashes(text, first))
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("got  %q\nwant %q", got, row.want)
			}
		})
	}
	s.T = t
	for _, e := range s.events() {
		if text := fmt.Sprintf("%+v", e); strings.Contains(text, created.ClientSecret) || strings.Contains(text, "battery") || strings.Contains(text, "argon2") {
			t.Errorf("a secret in the journal: %s", text)
		}
	}
}

// hashes replaces every hash but one that is known.
func hashes(text, known string) string {
	words := strings.Split(text, " ")
	for i, w := range words {
		if strings.HasPrefix(w, "sha256:") && len(w) == len("sha256:")+32 && w != known {
			words[i] = "sha256:…"
		}
	}
	return strings.Join(words, " ")
}

// What is created is there from its first state, and what does not fit into one
// record is in the next.
func TestManyChangesAreSeveralRecords(t *testing.T) {
	s := newService(t)
	var uris []string
	for i := range 20 {
		uris = append(uris, fmt.Sprintf("https://app.example.com/%d", i))
	}
	s.call(s.admin(), "POST", "/clients", object{"client_id": "many", "token_endpoint_auth_method": "none", "grant_types": []string{"authorization_code"}, "redirect_uris": uris}).wants(http.StatusCreated)
	changes := s.changesOf(0)
	for _, uri := range uris {
		if !slices.Contains(changes, "redirect_uris:  -> "+uri) {
			t.Errorf("%s is not in the journal: %q", uri, changes)
		}
	}
	if n := len(s.events()); n != 4 { // 22 changes
		t.Errorf("%d records", n)
	}
}
