package clientauth

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

var goodForm = form("grant_type", "client_credentials", "scope", "read")

func authorization(values ...string) func(*http.Request) {
	return func(r *http.Request) {
		for _, v := range values {
			r.Header.Add("Authorization", v)
		}
	}
}

func basic(credentials string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
}

func TestClientSecrets(t *testing.T) {
	w := newWorld(t)
	odd := w.declared.Clients["service"]
	odd.ID = "odd client:1"
	odd.Secrets = []authority.ClientSecret{{Hash: sha256.Sum256([]byte("p:w+ %é"))}}
	w.declared.Clients[odd.ID] = odd
	disabled := w.declared.Clients["service"]
	disabled.Disabled = true
	w.declared.Clients["disabled"] = disabled
	w.declare()
	secret := secretOf("service")
	trailing := strings.TrimRight(basic("service:"+secret), "=")
	for _, row := range []struct {
		name   string
		header []string
		form   url.Values
		want   oauth.Code
	}{
		{"client_secret_basic", []string{basic("service:" + secret)}, goodForm, ""},
		{"the scheme is not case-sensitive", []string{strings.Replace(basic("service:"+secret), "Basic", "bAsIc", 1)}, goodForm, ""},
		{"35: id and secret are form-urlencoded before they are put together", []string{basic("odd+client%3A1:p%3Aw%2B+%25%C3%A9")}, goodForm, ""},
		{"35: id and secret that are not form-urlencoded are other values", []string{basic("odd client:1:p:w+ %é")}, goodForm, oauth.InvalidClient},
		{"34: the same client_id in the body", []string{basic("service:" + secret)}, with(goodForm, "client_id", "service"), ""},
		{"34: another client_id in the body", []string{basic("service:" + secret)}, with(goodForm, "client_id", "post"), oauth.InvalidRequest},
		{"34: an empty client_id in the body counts as not sent", []string{basic("service:" + secret)}, form("grant_type", "client_credentials", "client_id", ""), ""},
		{"client_secret_post", nil, with(goodForm, "client_id", "post", "client_secret", secretOf("post")), ""},
		{"34: a secret in header and body", []string{basic("service:" + secret)}, with(goodForm, "client_id", "service", "client_secret", secret), oauth.InvalidRequest},
		{"34: two Authorization headers", []string{basic("service:" + secret), basic("service:" + secret)}, goodForm, oauth.InvalidRequest},
		{"34: post by a client of basic", nil, with(goodForm, "client_id", "service", "client_secret", secret), oauth.InvalidClient},
		{"34: basic by a client of post", []string{basic("post:" + secretOf("post"))}, goodForm, oauth.InvalidClient},
		{"34: basic by a client of private_key_jwt", []string{basic("signed:" + secretOf("signed"))}, goodForm, oauth.InvalidClient},
		{"34: basic by a public client", []string{basic("spa:" + secretOf("spa"))}, goodForm, oauth.InvalidClient},
		{"36: a client with a secret sends none", nil, with(goodForm, "client_id", "service"), oauth.InvalidClient},
		{"36: a client with a key sends no assertion", nil, with(goodForm, "client_id", "signed"), oauth.InvalidClient},
		{"36: a public client says who it is", nil, with(goodForm, "client_id", "spa"), ""},
		{"nobody at all", nil, goodForm, oauth.InvalidClient},
		{"a secret of nobody", nil, with(goodForm, "client_secret", secret), oauth.InvalidClient},
		{"33: a wrong secret", []string{basic("service:" + secret + "x")}, goodForm, oauth.InvalidClient},
		{"33: the start of the secret", []string{basic("service:" + secret[:8])}, goodForm, oauth.InvalidClient},
		{"33: an empty secret", []string{basic("service:")}, goodForm, oauth.InvalidClient},
		{"33: the secret of another client", []string{basic("service:" + secretOf("post"))}, goodForm, oauth.InvalidClient},
		{"33: the hash as the secret", []string{basic("service:" + fmt.Sprintf("%x", sha256.Sum256([]byte(secret))))}, goodForm, oauth.InvalidClient},
		{"33: a secret in another letter case", []string{basic("service:" + strings.ToUpper(secret))}, goodForm, oauth.InvalidClient},
		{"a client_id in another letter case", []string{basic("Service:" + secret)}, goodForm, oauth.InvalidClient},
		{"39: an unknown client", []string{basic("nosuch:" + secret)}, goodForm, oauth.InvalidClient},
		{"39: an unknown client without a secret", nil, with(goodForm, "client_id", "nosuch"), oauth.InvalidClient},
		{"39: an unknown client with an empty secret", []string{basic("nosuch:")}, goodForm, oauth.InvalidClient},
		{"42: a disabled client", []string{basic("disabled:" + secret)}, goodForm, oauth.InvalidClient},
		{"35: no colon", []string{basic("service")}, goodForm, oauth.InvalidClient},
		{"35: an empty client_id", []string{basic(":" + secret)}, goodForm, oauth.InvalidClient},
		{"35: nothing after the scheme", []string{"Basic"}, goodForm, oauth.InvalidClient},
		{"35: an empty value after the scheme", []string{"Basic "}, goodForm, oauth.InvalidClient},
		{"35: an empty header", []string{""}, goodForm, oauth.InvalidClient},
		{"35: not base64", []string{"Basic ***"}, goodForm, oauth.InvalidClient},
		{"35: base64url", []string{"Basic " + base64.URLEncoding.EncodeToString([]byte("odd+client%3A1:p%3Aw%2B\xff\xfe\xfb"))}, goodForm, oauth.InvalidClient},
		{"35: base64 without its padding", []string{trailing}, goodForm, oauth.InvalidClient},
		{"35: base64 with bits left over", []string{looseBits(basic("service:" + secret))}, goodForm, oauth.InvalidClient},
		{"35: base64 with a line break", []string{basic("service:" + secret)[:12] + "\r\n" + basic("service:" + secret)[12:]}, goodForm, oauth.InvalidClient},
		{"35: base64 with something after it", []string{basic("service:"+secret) + " x"}, goodForm, oauth.InvalidClient},
		{"35: a percent sign alone in the client_id", []string{basic("service%:" + secret)}, goodForm, oauth.InvalidClient},
		{"35: a percent sign alone in the secret", []string{basic("service:" + secret + "%zz")}, goodForm, oauth.InvalidClient},
		{"35: a NUL in the client_id", []string{basic("service%00:" + secret)}, goodForm, oauth.InvalidClient},
		{"35: bytes that are not UTF-8 in the client_id", []string{basic("service%ff:" + secret)}, goodForm, oauth.InvalidClient},
		{"35: a header of 8 KiB", []string{basic("service:" + strings.Repeat("a", 8<<10))}, goodForm, oauth.InvalidClient},
		{"35: a secret of 2 KiB in the body", nil, with(goodForm, "client_id", "post", "client_secret", strings.Repeat("a", 2<<10)), oauth.InvalidClient},
		{"35: a client_id of 1 KiB", nil, with(goodForm, "client_id", strings.Repeat("a", 1<<10)), oauth.InvalidClient},
		{"another scheme", []string{"Bearer " + secret}, goodForm, oauth.InvalidClient},
		{"another scheme beside a good secret in the body", []string{"Bearer x"}, with(goodForm, "client_id", "post", "client_secret", secretOf("post")), oauth.InvalidClient},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := w.ask(row.form, authorization(row.header...))
			if got := oauth.Code(r.text("error")); got != row.want || (r.client != "") != (row.want == "") {
				t.Fatalf("got %d %v, want error %q", r.status, r.body, row.want)
			}
			if row.want == oauth.InvalidClient && (r.status != 401 || !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Basic ") || r.text("error_description") != "client authentication failed") {
				t.Fatalf("39: the answer is not the one that everybody gets: %d %v %v", r.status, r.header, r.body)
			}
		})
	}
}

// looseBits sets a bit that padded base64 does not use: a lenient decoder takes it for the same value.
func looseBits(header string) string {
	body := strings.TrimRight(header, "=")
	if len(body) == len(header) {
		panic("choose a secret whose base64 is padded")
	}
	return body[:len(body)-1] + string(rune(body[len(body)-1]+1)) + header[len(body):]
}

func TestTwoSecretsWhileOneIsRotated(t *testing.T) { // 41
	w := newWorld(t)
	c := w.declared.Clients["service"]
	now := w.clock()
	c.Secrets = []authority.ClientSecret{
		{Hash: sha256.Sum256([]byte("old")), ExpiresAt: now.Add(time.Hour)},
		{Hash: sha256.Sum256([]byte("new"))},
	}
	w.declared.Clients["service"] = c
	w.declare()
	try := func(secret string, want int) {
		t.Helper()
		if r := w.ask(goodForm, authorization(basic("service:"+secret))); r.status != want {
			t.Fatalf("secret %q: %d %v, want %d", secret, r.status, r.body, want)
		}
	}
	try("old", 200)
	try("new", 200)
	w.wait(time.Hour - time.Millisecond)
	try("old", 200)
	w.wait(time.Millisecond)
	try("old", 401)
	try("new", 200)
}

func TestGuessingIsSlowedDown(t *testing.T) { // 39
	w := newWorld(t)
	wrong := authorization(basic("service:guess"))
	for i := range failureBurst {
		if r := w.ask(goodForm, wrong); r.status != 401 {
			t.Fatalf("guess %d: %d %v", i, r.status, r.body)
		}
	}
	r := w.ask(goodForm, wrong)
	if r.status != 429 || r.header.Get("Retry-After") == "" {
		t.Fatalf("guess %d: %d %v", failureBurst, r.status, r.body)
	}
	if r := w.ask(goodForm, authorization(basic("service:"+secretOf("service")))); r.status != 200 {
		t.Fatalf("somebody behind the same address has locked the client out: %d", r.status)
	}
	if r := w.ask(with(goodForm, "client_id", "post", "client_secret", secretOf("post"))); r.status != 200 {
		t.Fatalf("another client is locked out: %d %v", r.status, r.body)
	}
	w.wait(time.Second)
	if r := w.ask(goodForm, wrong); r.status != 401 {
		t.Fatalf("a second later: %d %v", r.status, r.body)
	}
}

func TestUnknownClientsAreLimitedToo(t *testing.T) {
	w := newWorld(t)
	for range failureBurst {
		w.ask(goodForm, authorization(basic("nosuch:guess")))
	}
	if r := w.ask(goodForm, authorization(basic("nosuch:guess"))); r.status != 429 {
		t.Fatalf("39: %d: an unknown client can be told from a known one", r.status)
	}
}

func TestLimitIsPerAddress(t *testing.T) {
	w := newWorld(t)
	l := w.Limit
	for range failureBurst {
		l.Failed("service", "192.0.2.66")
	}
	if l.Failed("service", "192.0.2.66") {
		t.Fatal("the guesser may continue")
	}
	if !l.Failed("service", "192.0.2.1") {
		t.Fatal("104: a stranger uses up what another address may try")
	}
	if r := w.ask(goodForm, authorization(basic("service:"+secretOf("service")))); r.status != 200 {
		t.Fatalf("%d %v", r.status, r.body)
	}
}

// FuzzBasic: what is accepted is exactly what form-urlencoding and base64 of
// an id and a secret give, and no value has a second base64 spelling.
func FuzzBasic(f *testing.F) {
	f.Add(basic("service:secret"))
	f.Add(basic("a%3Ab:c%2Bd"))
	f.Add("Basic ")
	f.Add("basic ====")
	f.Fuzz(func(t *testing.T, header string) {
		id, secret, err := parseBasic(header)
		if err != nil {
			if id != "" && secret != "" {
				t.Fatalf("%q: refused, and yet %q %q", header, id, secret)
			}
			return
		}
		_, encoded, _ := strings.Cut(header, " ")
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || base64.StdEncoding.EncodeToString(raw) != encoded {
			t.Fatalf("%q is not the one spelling of its base64", header)
		}
		again := basic(url.QueryEscape(id) + ":" + url.QueryEscape(secret))
		id2, secret2, err := parseBasic(again)
		if len(again) < 4096 && (err != nil || id2 != id || secret2 != secret) {
			t.Fatalf("%q gives %q %q, then %q %q %v", header, id, secret, id2, secret2, err)
		}
	})
}
