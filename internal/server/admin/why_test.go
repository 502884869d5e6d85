package admin_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
)

func (s *service) why(key string) (w admin.Why) {
	s.Helper()
	s.call(s.token("journal:read"), "GET", "/why/"+key, nil).wants(http.StatusOK).into(&w)
	return w
}

func (s *service) whyToken(token string) (w admin.Why) {
	s.Helper()
	s.call(s.token("journal:read"), "POST", "/why", object{"token": token}).wants(http.StatusOK).into(&w)
	return w
}

// refused sends a request that is refused and returns its number.
func (s *service) refused(h http.Handler, method, target, body string, headers ...string) string {
	s.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code < 303 {
		s.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
	}
	return w.Header().Get("X-Request-Id")
}

func TestEveryRefusalIsFoundByItsNumber(t *testing.T) {
	s := newService(t)
	wrong := []string{"Authorization", "Basic cm9vdDp3cm9uZw=="}
	for _, row := range []struct {
		name         string
		h            http.Handler
		method, path string
		body         string
		headers      []string
		code, reason string
	}{
		{"a wrong secret", s.Public, "POST", "/token", "grant_type=client_credentials", wrong, "invalid_client", `client "root": the secret is wrong`},
		{"the same again, which the journal only counts", s.Public, "POST", "/token", "grant_type=client_credentials", wrong, "invalid_client", "client authentication failed"},
		{"and again", s.Public, "POST", "/token", "grant_type=client_credentials", wrong, "invalid_client", "client authentication failed"},
		{"a page with an error", s.Public, "GET", "/authorize?client_id=nosuch", "", nil, "invalid_request", "client_id is not known here"},
		{"an error that goes to the application", s.Public, "GET", "/authorize?client_id=web&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcallback&response_type=token", "", nil, "unsupported_response_type", "response_type must be code"},
		{"an address that leads nowhere", s.Public, "GET", "/nosuch", "", nil, "not_found", "there is no such path"},
		{"a wrong method", s.Public, "DELETE", "/jwks", "", nil, "method_not_allowed", "this path takes"},
		{"a body that is too large", s.Public, "POST", "/token", strings.Repeat("a", 70_000), nil, "invalid_request", "64 KiB"},
		{"an administrator without a token", s.Admin, "GET", "/admin/v1/clients", "", nil, "invalid_token", "an access token"},
		{"a person with the form of another site", s.Public, "POST", "/login", "a=b", []string{"Sec-Fetch-Site", "cross-site"}, "invalid_request", "cross-origin"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.T = t
			id := s.refused(row.h, row.method, row.path, row.body, row.headers...)
			if tag, at, ok := httpx.ParseRequestID(id); !ok || tag != httpx.TagOf(s.Parts.Name) || !at.Equal(s.Now()) {
				t.Errorf("%s does not say who answered, and when", id)
			}
			w := s.why(id)
			if !w.Found || w.Kind != "request" || w.Key != id || w.Request == nil || w.Request.Error != row.code || !strings.Contains(w.Reason, row.reason) || w.Action == "" || w.Summary == "" || w.Alive != nil {
				t.Fatalf("%+v %+v", w, w.Request)
			}
			if path, _, _ := strings.Cut(row.path, "?"); w.Request.Path != path && w.Request.Path != "other" || w.Request.Method != row.method || !w.Request.Time.Equal(s.Now()) || w.Request.Node == "" {
				t.Errorf("%+v", w.Request)
			}
		})
	}
}

func TestARequestThatIsInTheJournalIsFoundByItsNumberToo(t *testing.T) {
	s := newService(t)
	made := s.call(s.admin(), "POST", "/clients", object{"client_id": "machine", "grant_types": []string{"client_credentials"}, "scope": "orders:read", "resources": []string{"https://api.example.com"}}).wants(http.StatusCreated)
	var c admin.ClientCredentials
	made.into(&c)
	if w := s.why(made.header.Get("X-Request-Id")); !w.Found || w.Request != nil || len(w.Records) != 1 || !strings.Contains(w.Summary, "client.changed") {
		t.Errorf("a change: %+v", w)
	}
	r := httptest.NewRequest("POST", "/token", strings.NewReader("grant_type=client_credentials"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("machine", c.ClientSecret)
	answer := httptest.NewRecorder()
	s.Public.ServeHTTP(answer, r)
	w := s.why(answer.Header().Get("X-Request-Id"))
	if !w.Found || w.Alive == nil || !*w.Alive || w.Token == nil || w.Token.ClientID != "machine" || !strings.Contains(w.Summary, "token.issued") {
		t.Errorf("a token: %d %+v", answer.Code, w)
	}
}

func TestARefusalSaysWhetherTheClientHadProvedItself(t *testing.T) {
	s := newService(t)
	c := s.createClient("machine")
	id := s.refused(s.Public, "POST", "/token", "grant_type=client_credentials&scope=nosuch", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("machine:"+c.ClientSecret)))
	other := s.refused(s.Public, "GET", "/authorize?client_id=web&redirect_uri=x", "")
	third := s.refused(s.Admin, "GET", "/admin/v1/users", "", "Authorization", "Bearer "+s.token("clients:read"))
	for id, want := range map[string]admin.WhyAsked{
		id: {ClientID: "machine", Proved: true}, other: {ClientID: "web"}, third: {ClientID: "root", Proved: true},
	} {
		if r := s.why(id).Request; r == nil || r.ClientID != want.ClientID || r.Proved != want.Proved {
			t.Errorf("%+v, want %+v", r, want)
		}
	}
}

func TestANumberThatNobodyKnowsLeadsToWhoMay(t *testing.T) {
	s := newService(t)
	for _, name := range []string{"other-1", "other-2"} {
		if _, err := s.DB.StartJournal(t.Context(), name, "/"+name, authority.JournalHead{}); err != nil {
			t.Fatal(err)
		}
	}
	var status admin.JournalStatus
	s.call(s.token("journal:read"), "GET", "/journal/status", nil).wants(http.StatusOK).into(&status)
	tag, yesterday := httpx.TagOf, s.Now().Add(-24*time.Hour)
	for _, row := range []struct {
		name, id, says string
		nodes          []string
	}{
		{"of another node", httpx.NewRequestID(tag("other-1"), yesterday), "Node other-1 answered", []string{"other-1"}},
		{"of this node, a day ago", httpx.NewRequestID(tag(status.Node), yesterday), "This node answered", nil},
		{"of nobody", httpx.NewRequestID(tag("nobody"), yesterday), "does not know", nil},
		{"of the future", httpx.NewRequestID(tag("other-1"), s.Now().Add(time.Hour)), "future", []string{"other-1"}},
		{"the id of a token that nobody knows", authority.NewID(yesterday).String(), "knows no token", []string{"other-1", "other-2"}},
		{"what is no number at all", "x", "This is not the id", nil},
	} {
		w := s.why(row.id)
		if w.Found || !strings.Contains(w.Summary, row.says) || fmt.Sprint(w.Nodes) != fmt.Sprint(row.nodes) || w.Alive != nil {
			t.Errorf("%s: %+v", row.name, w)
		}
	}
}

func TestWhyATokenIsDead(t *testing.T) {
	for _, row := range []struct {
		name   string
		do     func(s *service, token string, w admin.Why)
		alive  bool
		by     string // the kind of what ended it
		reason string
	}{
		{"a token that is good", func(*service, string, admin.Why) {}, true, "", ""},
		{"a token that has expired", func(s *service, _ string, _ admin.Why) { s.Pass(10 * time.Minute) }, false, "", "it expired at 2026-05-01T12:05:00Z"},
		{"a token that was revoked", func(s *service, token string, _ admin.Why) {
			s.call(s.admin(), "POST", "/revocations", object{"token": token}).wants(http.StatusOK)
		}, false, "token", "the token was revoked: by an administrator"},
		{"a token whose grant was ended", func(s *service, _ string, w admin.Why) {
			s.call(s.admin(), "POST", "/revocations", object{"grant_id": w.Token.GrantID}).wants(http.StatusOK)
		}, false, "grant", "has ended: by an administrator"},
		{"a token whose client's tokens were ended", func(s *service, _ string, _ admin.Why) {
			s.call(s.admin(), "POST", "/revocations", object{"client_id": "machine"}).wants(http.StatusOK)
		}, false, "client", "everything of the client machine"},
		{"a token from before the panic", func(s *service, _ string, _ admin.Why) {
			s.call(s.admin(), "POST", "/revocations", object{"everything": true}).wants(http.StatusOK)
			s.Pass(time.Second)
		}, false, "everything", "everything that was as old"},
		{"a token that was revoked and has expired since", func(s *service, token string, _ admin.Why) {
			s.call(s.admin(), "POST", "/revocations", object{"token": token}).wants(http.StatusOK)
			s.Pass(6 * time.Minute)
		}, false, "token", "the token was revoked"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newService(t)
			s.call(s.admin(), "POST", "/clients", object{"client_id": "machine", "grant_types": []string{"client_credentials"}, "scope": "orders:read", "resources": []string{"https://api.example.com"}}).wants(http.StatusCreated)
			token := s.tokenFor("machine", "https://api.example.com", "orders:read")
			before := s.whyToken(token)
			if !before.Found || before.Kind != "token" || before.Alive == nil || !*before.Alive || before.Token == nil || before.Token.ClientID != "machine" ||
				before.Token.Scope != "orders:read" || before.Token.Subject.Kind != "client" || before.Key != before.Token.TokenID || len(before.Records) != 1 {
				t.Fatalf("%+v %+v", before, before.Token)
			}
			s.Pass(time.Second)
			row.do(s, token, before)
			for how, w := range map[string]admin.Why{"by its value": s.whyToken(token), "by its jti": s.why(before.Key)} {
				if !w.Found || w.Alive == nil || *w.Alive != row.alive || !strings.Contains(w.Reason, row.reason) || w.Action == "" || w.Token == nil || w.Token.TokenID != before.Key {
					t.Fatalf("%s: %+v", how, w)
				}
				if (w.EndedBy != nil) != (row.by != "") || w.EndedBy != nil && (w.EndedBy.Kind != row.by || w.EndedBy.At == nil || w.EndedBy.By != "root") {
					t.Errorf("%s: ended by %+v", how, w.EndedBy)
				}
			}
		})
	}
}

func TestWhyADisabledClientMakesATokenDead(t *testing.T) {
	s := newService(t)
	s.createClient("machine")
	token := s.tokenFor("machine", "https://api.example.com", "orders:read")
	s.Pass(time.Second)
	s.call(s.admin(), "POST", "/clients/machine/disable", nil).wants(http.StatusOK)
	if w := s.whyToken(token); w.Alive == nil || *w.Alive || w.EndedBy == nil || w.EndedBy.Kind != "client" {
		t.Fatalf("%+v", w)
	}
}

func TestWhyAGrantIsDead(t *testing.T) {
	s := newService(t)
	parent := s.grant("web", "u_ada")
	child := s.grant("web", "u_ada", parent)
	if w := s.why(child.ID.String()); !w.Found || w.Kind != "grant" || w.Alive == nil || !*w.Alive || w.Grant == nil || w.Grant.ClientID != "web" || !strings.Contains(w.Summary, "u_ada") {
		t.Fatalf("%+v", w)
	}
	s.call(s.admin(), "POST", "/grants/"+parent.ID.String()+"/end", nil).wants(http.StatusOK)
	w := s.why(parent.ID.String())
	if *w.Alive || w.EndedBy == nil || w.EndedBy.Kind != "grant" || !strings.Contains(w.Reason, "by an administrator") || w.EndedBy.By != "root" {
		t.Errorf("the grant itself: %+v %+v", w, w.EndedBy)
	}
	w = s.why(child.ID.String())
	if *w.Alive || w.EndedBy == nil || w.EndedBy.Key != parent.ID.String() || !strings.Contains(w.Reason, parent.ID.String()) {
		t.Errorf("the child: %+v %+v", w, w.EndedBy)
	}
	s.Pass(authority.MaxGrantTTL)
	if w = s.why(s.grant("web", "u_ada").ID.String()); !*w.Alive {
		t.Errorf("a new one: %+v", w)
	}
}

func TestACodeIsAliveUntilItCannotBeRedeemed(t *testing.T) {
	s := newService(t)
	g := s.grant("web", "u_ada") // for its members alone
	g.ID, g.State = authority.NewID(s.Now()), authority.GrantPending
	code := authority.NewAuthorizationCode(g.ID)
	g.Code = authority.Code{Hash: code.Hash(), RedirectURI: "https://app.example.com/callback", ExpiresAt: s.Now().Add(time.Minute)}
	if err := s.DB.CreateGrant(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if w := s.whyToken(code.Reveal()); !w.Found || w.Kind != "grant" || w.Key != g.ID.String() || w.Alive == nil || !*w.Alive || !strings.Contains(w.Summary, "authorization code") {
		t.Errorf("a code: %+v", w)
	}
	if w := s.whyToken(authority.NewAuthorizationCode(g.ID).Reveal()); w.Found || w.Key != "" || w.Alive == nil || *w.Alive {
		t.Errorf("another code that names the grant: %+v", w)
	}
	if w := s.whyToken(authority.NewAuthorizationCode(authority.NewID(s.Now())).Reveal()); w.Found || w.Alive == nil || *w.Alive {
		t.Errorf("a code of no grant: %+v", w)
	}
	s.Pass(2 * time.Minute)
	if w := s.whyToken(code.Reveal()); w.Alive == nil || *w.Alive {
		t.Errorf("after its minute: %+v", w)
	}
	s.call(s.admin(), "POST", "/revocations", object{"grant_id": g.ID.String()}).wants(http.StatusOK)
	if w := s.whyToken(code.Reveal()); w.Alive == nil || *w.Alive {
		t.Errorf("after its end: %+v", w)
	}
}

func TestATokenStaysOutOfURLsAndAnswers(t *testing.T) {
	s := newService(t)
	token := s.tokenFor("root", "urn:signalbox:admin", "clients:read")
	for _, secret := range []string{token, "sbx_rt_0123456789abcdefghij"} {
		got := s.call(s.token("journal:read"), "GET", "/why/"+secret, nil).wants(http.StatusBadRequest, "body of POST")
		if strings.Contains(string(got.body), secret) {
			t.Errorf("%s", got.body)
		}
	}
	got := s.call(s.token("journal:read"), "POST", "/why", object{"token": token}).wants(http.StatusOK)
	if strings.Contains(string(got.body), token) || strings.Contains(s.Log(), token) {
		t.Errorf("%s", got.body)
	}
	for name, secret := range map[string]string{
		"a forged one": token[:len(token)-8] + "AAAAAAAA", "a client's secret": "sbx_cs_0123456789abcdefghij", "a word": "hello",
	} {
		if w := s.whyToken(secret); w.Found || w.Kind != "unknown" || w.Alive != nil || w.Summary == "" || strings.Contains(w.Summary+w.Reason, secret) {
			t.Errorf("%s: %+v", name, w)
		}
	}
	s.call(s.token("journal:read"), "POST", "/why", object{"token": ""}).wants(http.StatusBadRequest)
	s.call(s.token("journal:read"), "POST", "/why", object{"token": strings.Repeat("a", 20_000)}).wants(http.StatusBadRequest)
	s.call(s.token("grants:read"), "POST", "/why", object{"token": token}).wants(http.StatusForbidden)
	s.call(s.token("grants:read"), "GET", "/why/x", nil).wants(http.StatusForbidden)
}

func TestAClientSecretIsTheClients(t *testing.T) {
	s := newService(t)
	var made struct {
		Secret string `json:"client_secret"`
	}
	create := func(id string) string {
		s.call(s.token("clients:write"), "POST", "/clients", object{"client_id": id, "grant_types": []string{"client_credentials"}}).wants(http.StatusCreated).into(&made)
		return made.Secret
	}
	create("another")
	secret := create("night-job")
	if w := s.whyToken(secret); !w.Found || w.Kind != "client_secret" || w.Key != "night-job" || w.Alive == nil || !*w.Alive || !strings.Contains(w.Action, "client rotate night-job") {
		t.Errorf("%+v", w)
	}
	s.call(s.token("clients:write"), "POST", "/clients/night-job/secret", object{}).wants(http.StatusOK)
	if w := s.whyToken(secret); w.Found || w.Kind != "client_secret" || w.Alive == nil || *w.Alive || strings.Contains(w.Summary, secret) {
		t.Errorf("after its rotation: %+v", w)
	}
}

// session signs a person in, as the sign-in page does.
func (s *service) session(userID string) authority.Session {
	s.Helper()
	now := s.Now()
	session := authority.Session{
		ID: authority.NewID(now), Hash: [32]byte{1}, AuthTime: now, AMR: []string{"pwd"}, ExpiresAt: now.Add(12 * time.Hour),
		Subject: authority.Subject{Issuer: issuerURL, ID: userID, Kind: authority.SubjectUser},
	}
	if err := s.DB.StartSession(s.Context(), session); err != nil {
		s.Fatal(err)
	}
	s.Wait(time.Second)
	return session
}

// signOut ends a session, as the sign-out page does.
func (s *service) signOut(session authority.Session) {
	s.Helper()
	e := authority.Event{Type: authority.EventSignedOut, At: s.Now(), Subject: session.Subject, SessionID: session.ID, Reason: "signed out"}
	if _, err := s.Parts.Endings.EndSession(s.Context(), session.ID, e); err != nil {
		s.Fatal(err)
	}
}

func TestWhyASessionHasEnded(t *testing.T) {
	for _, row := range []struct {
		name   string
		do     func(s *service, session authority.Session)
		alive  bool
		whose  bool // although its row may be gone
		by     string
		reason string
		action string
	}{
		{"a session that is good", func(*service, authority.Session) {}, true, true, "", "", "the person is signed in"},
		{"one whose person has signed out", func(s *service, session authority.Session) { s.signOut(session) }, false, true, "session", "has ended: signed out", "sign in again"},
		{"one that ended on a node whose journal is elsewhere", func(s *service, session authority.Session) {
			if _, err := s.DB.EndSession(s.Context(), session.ID, authority.Ending{At: s.Now(), Remember: time.Hour}); err != nil {
				s.Fatal(err)
			}
			s.Pass(0)
		}, false, false, "session", "has ended", "sign in again"},
		{"one that has expired", func(s *service, _ authority.Session) { s.Pass(13 * time.Hour) }, false, true, "", "it expired at 2026-05-02T00:00:00Z", "sign in again"},
		{"one from before everything of the person was ended", func(s *service, _ authority.Session) {
			s.call(s.admin(), "POST", "/revocations", object{"username": "ada"}).wants(http.StatusOK)
		}, false, true, "user", "everything of the user u_ada", "sign in again"},
		{"one whose person is gone", func(s *service, _ authority.Session) { delete(s.Static.Users, "u_ada"); s.Declare() }, false, true, "", `user "u_ada" is disabled or gone`, "Enable the account"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newService(t)
			session := s.session("u_ada")
			row.do(s, session)
			w := s.why(session.ID.String())
			if !w.Found || w.Kind != "session" || w.Alive == nil || *w.Alive != row.alive || w.Session == nil || w.Session.SessionID != session.ID.String() {
				t.Fatalf("%+v", w)
			}
			if (w.Session.Subject != nil) != row.whose || row.whose && (w.Session.Subject.ID != "u_ada" || !strings.Contains(w.Summary, "u_ada")) {
				t.Errorf("whose: %+v, %s", w.Session.Subject, w.Summary)
			}
			if (w.EndedBy != nil) != (row.by != "") || row.by != "" && w.EndedBy.Kind != row.by || !strings.Contains(w.Reason, row.reason) || !strings.Contains(w.Action, row.action) {
				t.Errorf("%s / %s / %+v", w.Reason, w.Action, w.EndedBy)
			}
		})
	}
}

// A session's row goes when it expires, and the list of what has ended forgets it.
func TestWhyASessionIsOverThatTheJournalAloneRemembers(t *testing.T) {
	s := newService(t)
	id, person := authority.NewID(s.Now()), authority.Subject{Issuer: issuerURL, ID: "u_ada", Kind: authority.SubjectUser}
	if err := s.Parts.Endings.EndToken(s.Context(), authority.NewID(s.Now()), s.Now(), authority.Event{Type: authority.EventTokenRevoked, Subject: person, SessionID: id}); err != nil {
		t.Fatal(err)
	}
	w := s.why(id.String())
	if !w.Found || w.Kind != "session" || w.Alive == nil || *w.Alive || w.EndedBy != nil || len(w.Records) != 1 ||
		w.Session.Subject == nil || w.Session.Subject.ID != "u_ada" || !strings.Contains(w.Reason, "it is over") || !strings.Contains(w.Action, "sign in again") {
		t.Errorf("%+v", w)
	}
}

func TestWhyOfAnIDTokenSaysThatItIsNoAccessToken(t *testing.T) {
	s := newService(t)
	session := s.session("u_ada")
	signer, err := s.Parts.Keys.Signer("", "JWT")
	if err != nil {
		t.Fatal(err)
	}
	idToken := func(issuer, sid string) string {
		token, err := signer.Sign(fmt.Appendf(nil, `{"iss":%q,"aud":"web","sub":"u_ada","iat":%d,"exp":%d%s}`, issuer, s.Now().Unix(), s.Now().Add(5*time.Minute).Unix(), sid))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	sid := fmt.Sprintf(`,"sid":%q`, session.ID)
	token, bare, foreign := idToken(issuerURL, sid), idToken(issuerURL, ""), idToken("https://elsewhere.example.com", sid)

	w := s.whyToken(token)
	if !w.Found || w.Kind != "id_token" || w.Token == nil || w.Token.ClientID != "web" || w.Token.Subject.ID != "u_ada" || w.Token.TokenID != "" ||
		w.Session == nil || w.Alive == nil || !*w.Alive || !strings.Contains(w.Summary, "no access token") || !strings.Contains(w.Summary, "is good until") || !strings.Contains(w.Action, "the access token that came with it") {
		t.Errorf("%+v %+v", w, w.Token)
	}
	s.signOut(session)
	if w = s.whyToken(token); !w.Found || w.Alive == nil || *w.Alive || w.EndedBy == nil || w.EndedBy.Kind != "session" || !strings.Contains(w.Action, "sign in again") {
		t.Errorf("after the sign-out: %+v", w)
	}
	s.Pass(10 * time.Minute)
	if w = s.whyToken(token); !w.Found || !strings.Contains(w.Summary, "It expired at 2026-05-01T12:05:01Z") {
		t.Errorf("after its time: %+v", w)
	}
	if w = s.whyToken(bare); !w.Found || w.Kind != "id_token" || w.Alive != nil || w.Session != nil || w.Action == "" {
		t.Errorf("without a session: %+v", w)
	}
	for name, bad := range map[string]string{"of another issuer": foreign, "forged": token[:len(token)-8] + "AAAAAAAA"} {
		if w = s.whyToken(bad); w.Found || w.Kind != "unknown" || w.Session != nil {
			t.Errorf("%s: %+v", name, w)
		}
	}
}
