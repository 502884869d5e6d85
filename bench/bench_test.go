//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func TestField(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"a plain member", `{"access_token":"abc","x":1}`, "abc"},
		{"a blank after the colon", `{"access_token": "abc"}`, "abc"},
		{"another member only", `{"refresh_token":"abc"}`, ""},
		{"a number", `{"access_token":5}`, ""},
		{"cut off", `{"access_token":"ab`, ""},
		{"cut off before the value", `{"access_token":`, ""},
	} {
		if got := string(field([]byte(tt.in), "access_token")); got != tt.want {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

func TestFillForm(t *testing.T) {
	const page = `<form action="/other"><input name=q><button id="search">go</button></form>
		<form method="post" action="/login?a=1&amp;b=2">
		<input type="hidden" name="state" value="a&#43;b"><input name="username"><input type="password" name='password'>
		<input type="checkbox" name="remember" value="1"><input type="checkbox" name="scope" value="read" checked>
		<button id="cancel" name="do" value="cancel">no</button><button id="sign-in" name="do" value="yes">Sign in</button></form>`
	action, f, err := fillForm(page, map[string]string{"username": "ada", "password": "x y"}, "sign-in", "allow")
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Encode(); action != "/login?a=1&b=2" || got != "do=yes&password=x+y&scope=read&state=a%2Bb&username=ada" {
		t.Errorf("%s %s", action, got)
	}
	if _, _, err := fillForm(page, nil, "allow"); err == nil {
		t.Error("no error without the button")
	}
}

// TestCodeFlow runs the flow against pages like those of the service.
func TestCodeFlow(t *testing.T) {
	challenges := map[string]string{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if _, err := r.Cookie("__Host-session"); err != nil {
			fmt.Fprintf(w, `<form method="post" action="/login"><input type="hidden" name="back" value="%s"><input name="username"><input name="password"><button id="sign-in">Sign in</button></form>`,
				strings.ReplaceAll(r.URL.RawQuery, "&", "&amp;"))
			return
		}
		code := fmt.Sprint("code", len(challenges))
		challenges[code] = q.Get("code_challenge")
		http.Redirect(w, r, q.Get("redirect_uri")+"?code="+code+"&state="+q.Get("state"), http.StatusSeeOther)
	})
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("username") != "ada" || r.FormValue("password") != "pw" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "__Host-session", Value: "s", Secure: true, Path: "/"})
		http.Redirect(w, r, "/authorize?"+r.FormValue("back"), http.StatusSeeOther)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if challenges[r.FormValue("code")] != base64.RawURLEncoding.EncodeToString(sum[:]) {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `{"refresh_token":"rt-%s"}`, r.FormValue("code"))
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	f := codeFlow{issuer: s.URL, clientID: "c", redirectURI: "http://127.0.0.1:9/callback", user: "ada", password: "pw"}
	got, err := f.refreshTokens(context.Background(), 2)
	if err != nil || fmt.Sprint(got) != "[rt-code0 rt-code1]" {
		t.Errorf("%v, %v", got, err)
	}
	forget := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, f.redirectURI+"?code=c&state=another", http.StatusSeeOther)
	})
	if _, err := f.refreshTokens(context.Background(), 1); err == nil || !strings.Contains(err.Error(), "another state") {
		t.Errorf("a redirect with another state: %v", err)
	}
	s.Config.Handler = forget
	f.password = "wrong"
	if _, err := f.refreshTokens(context.Background(), 1); err == nil {
		t.Error("no error with a wrong password")
	}
}

func TestVerdicts(t *testing.T) {
	run := func(perSecond, cpu, p50 float64) measured {
		return measured{PerSecond: perSecond, ServerCPU: cpu, P50: p50}
	}
	ideal := row{scenario: scenario{name: "ideal"}, Name: "ideal", Measured: []measured{run(100, 10, 1), run(50, 20, 1), run(100, 10, 1)}}
	for _, tt := range []struct {
		name   string
		goal   goal
		runs   []measured
		missed bool
	}{
		{"fast enough", goal{perSecond: 90}, []measured{run(80, 1, 1), run(90, 1, 1), run(95, 1, 1)}, false},
		{"two slow runs of three", goal{perSecond: 90}, []measured{run(80, 1, 1), run(85, 1, 1), run(95, 1, 1)}, true},
		{"slow in the ideal's slow run only", goal{ideal: "ideal", share: 0.7, cpu: 1.4}, []measured{run(75, 13, 1), run(36, 27, 1), run(75, 13, 1)}, false},
		{"too slow", goal{ideal: "ideal", share: 0.7, cpu: 1.4}, []measured{run(60, 13, 1), run(40, 26, 1), run(60, 13, 1)}, true},
		{"too much CPU in one run only", goal{ideal: "ideal", share: 0.7, cpu: 1.4}, []measured{run(75, 13, 1), run(40, 30, 1), run(75, 13, 1)}, false},
		{"too much CPU", goal{ideal: "ideal", share: 0.7, cpu: 1.4}, []measured{run(75, 15, 1), run(40, 26, 1), run(75, 15, 1)}, true},
		{"as late", goal{against: "ideal", latency: 1.2}, []measured{run(1, 1, 1.2), run(1, 1, 1.1), run(1, 1, 9)}, false},
		{"later", goal{against: "ideal", latency: 1.2}, []measured{run(1, 1, 1.3), run(1, 1, 1.1), run(1, 1, 9)}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := row{scenario: scenario{goal: tt.goal}, Name: tt.name, Measured: tt.runs}
			rep := &report{Rows: []row{ideal, r}}
			asked, reached := rep.verdict(r)
			if asked == "" || strings.Contains(reached, "missed") != tt.missed {
				t.Errorf("asked %q, reached %q", asked, reached)
			}
		})
	}
}

func TestScenariosCompareWithScenariosThatExist(t *testing.T) {
	names := map[string]bool{"": true}
	for _, s := range scenarios {
		if names[s.name] {
			t.Errorf("%s occurs twice", s.name)
		}
		names[s.name] = true
	}
	for _, s := range scenarios {
		if !names[s.goal.ideal] || !names[s.goal.against] || !names[s.goal.beyond] {
			t.Errorf("%s compares with nothing", s.name)
		}
	}
	b := &bench{options: options{only: regexp.MustCompile("SQLite, full")}, signalbox: "x"}
	var got []string
	for _, s := range b.selected() {
		got = append(got, s.name)
	}
	if strings.Join(got, "; ") != "ideal handler, c=16; ideal handler, c=64; refresh, SQLite, 1,000 grants; refresh, SQLite, full" {
		t.Error(got)
	}
}

func TestMarkdownSaysWhatIsMissing(t *testing.T) {
	rep := &report{Rows: []row{{Name: "a", Measured: []measured{{PerSecond: 10}, {PerSecond: 30}, {PerSecond: 20}}}, {Name: "b", Failure: "status 500"}}, Missing: []string{"c"}}
	var out bytes.Buffer
	rep.writeMarkdown(&out)
	for _, want := range []string{"| a | 0 | 20 (10 to 30) |", "| b | 0 | not measured: status 500 |", "Not measured: c"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if !rep.failed() {
		t.Error("a report with a missing scenario is not whole")
	}
}
