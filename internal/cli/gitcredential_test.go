package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/tokencache"
)

const gitResource = "https://git.example.com"

// git runs the helper as Git does.
func (i *exchangeIssuer) git(operation, said string, more ...string) result {
	i.Helper()
	args := append([]string{"git-credential", "--issuer", i.url, "--resource", gitResource}, more...)
	return execute(i.T, i.Context(), i.env, strings.NewReader(said), append(args, operation)...)
}

const gitAsks = "protocol=https\nhost=git.example.com\n"

func TestGitGetsATokenAsAPasswordOrAsBearer(t *testing.T) {
	i := newExchangeIssuer(t)
	i.answer = i.numbered
	file := i.file(proof(t, "pod-1", "1"))
	before := time.Now()
	old := i.git("get", gitAsks+"\n", "--subject-token-file", file).wants(0).out
	until := before.Unix() + 270
	if !strings.HasPrefix(old, "username=signalbox\npassword=token-1\npassword_expiry_utc=") {
		t.Errorf("an older Git hears %q", old)
	}
	var said int64
	if _, err := fmt.Sscanf(old[strings.LastIndex(old, "=")+1:], "%d", &said); err != nil || said < until-1 || said > time.Now().Unix()+270 {
		t.Errorf("it expires at %d, not about %d: %v", said, until, err)
	}
	newer := i.git("get", "capability[]=authtype\ncapability[]=state\n"+gitAsks+"wwwauth[]=Bearer realm=\"a\"\nwwwauth[]=Basic realm=\"a\"\n", "--subject-token-file", file).wants(0).out
	for _, line := range []string{"capability[]=authtype\n", "authtype=Bearer\n", "credential=token-1\n", "ephemeral=1\n", "password_expiry_utc="} {
		if !strings.Contains(newer, line) {
			t.Errorf("Git 2.46 hears no %q in %q", line, newer)
		}
	}
	if form := i.requests()[0].form; len(i.requests()) != 1 || form.Get("resource") != gitResource || form.Get("subject_token") == "" {
		t.Errorf("%d requests, the first asks %v", len(i.requests()), form)
	}
}

func TestAClientGetsATokenForGit(t *testing.T) {
	i := newExchangeIssuer(t)
	i.answer = i.numbered
	secret := i.file("hunter2")
	for range 2 {
		i.git("get", gitAsks, "--client-id", "ci", "--client-secret-file", secret, "--scope", "repo:read").wants(0, "password=token-1")
	}
	got := i.requests()[0]
	if got.id != "ci" || got.secret != "hunter2" || got.form.Encode() != "grant_type=client_credentials&resource=https%3A%2F%2Fgit.example.com&scope=repo%3Aread" {
		t.Errorf("it asked %v as %q", got.form, got.id)
	}
	i.git("get", gitAsks, "--client-id", "other", "--client-secret-file", secret, "--scope", "repo:read").wants(0, "password=token-2")
	i.git("get", gitAsks, "--client-id", "ci", "--client-secret-file", secret).wants(0, "password=token-3")
	i.age(220 * time.Second)
	i.answer = refuses(401, "invalid_client", "client authentication failed")
	for range 2 {
		if r := i.git("get", gitAsks, "--client-id", "ci", "--client-secret-file", secret).wants(1, "client authentication failed").inWords(); r.out != "" {
			t.Errorf("after a refusal it printed %q", r.out)
		}
	}
}

// A token that left for another server would be stolen: Git asks a helper about any.
func TestOnlyTheServerOfTheResourceGetsTheToken(t *testing.T) {
	i := newExchangeIssuer(t)
	file := i.file(proof(t, "pod-1", "1"))
	for _, row := range []struct{ sentence, said, server string }{
		{"another host", "protocol=https\nhost=git.example.com.evil.example\n", ""},
		{"a host above", "protocol=https\nhost=example.com\n", ""},
		{"plain HTTP", "protocol=http\nhost=git.example.com\n", ""},
		{"another port", "protocol=https\nhost=git.example.com:8443\n", ""},
		{"no host", "protocol=https\n", ""},
		{"nothing", "\n", ""},
		{"the host after the end of the request", "\n" + gitAsks, ""},
		{"another user", gitAsks + "username=alice\n", ""},
		{"another folder", gitAsks + "path=other/x.git\n", gitResource + "/team/"},
		{"a folder that begins alike", gitAsks + "path=teammate/x.git\n", gitResource + "/team"},
	} {
		if r := i.git("get", row.said, "--subject-token-file", file, "--server", row.server).wants(0); r.out != "" {
			t.Errorf("%s: %q", row.sentence, r.out)
		}
	}
	if n := len(i.requests()); n != 0 {
		t.Errorf("%d tokens were asked for", n)
	}
	for _, row := range []struct{ sentence, said, server string }{
		{"the host in capitals", "protocol=https\nhost=GIT.example.com\n", ""},
		{"the port that https has", "protocol=https\nhost=git.example.com:443\n", ""},
		{"the user that we answer", gitAsks + "username=signalbox\n", ""},
		{"below the folder", gitAsks + "path=team/x.git\n", gitResource + "/team/"},
		{"without the path, which Git omits", gitAsks, gitResource + "/team"},
	} {
		if r := i.git("get", row.said, "--subject-token-file", file, "--server", row.server).wants(0); !strings.Contains(r.out, "password=the-token") {
			t.Errorf("%s: %q", row.sentence, r.out)
		}
	}
}

func TestWhatGitSaysAmbiguouslyIsRefused(t *testing.T) {
	i := newExchangeIssuer(t)
	file := i.file(proof(t, "pod-1", "1"))
	for _, row := range []struct{ sentence, said, problem string }{
		{"two hosts", gitAsks + "host=evil.example\n", "read as another host"},
		{"a carriage return", "protocol=https\nhost=git.example.com\r\n", "read as another host"},
		{"a NUL", "protocol=https\nhost=git.example.com\x00.evil.example\n", "read as another host"},
		{"no key", gitAsks + "=x\n", "not what git says"},
		{"no value", gitAsks + "x\n", "not what git says"},
		{"too much", strings.Repeat("wwwauth[]=x\n", maxGitRequest/10), "more than 256 KiB"},
	} {
		if r := i.git("get", row.said, "--subject-token-file", file).wants(1, row.problem).inWords(); r.out != "" || len(i.requests()) > 0 {
			t.Errorf("%s: %q", row.sentence, r.out)
		}
	}
}

// Git says erase when the server has refused a token.
func TestARefusedTokenIsNotUsedAgain(t *testing.T) {
	i := newExchangeIssuer(t)
	i.answer = i.numbered
	file := i.file(proof(t, "pod-1", "1"))
	get := func(token string) {
		t.Helper()
		i.git("get", gitAsks, "--subject-token-file", file).wants(0, "password="+token+"\n")
	}
	get("token-1")
	i.git("store", gitAsks+"username=signalbox\npassword=token-1\n", "--subject-token-file", file).wants(0)
	i.git("erase", gitAsks+"username=signalbox\npassword=another\n", "--subject-token-file", file).wants(0)
	i.git("erase", gitAsks+"username=signalbox\n", "--subject-token-file", file).wants(0)
	i.git("erase", "protocol=https\nhost=elsewhere.example\nusername=signalbox\npassword=token-1\n", "--subject-token-file", file).wants(0)
	get("token-1")
	i.git("erase", gitAsks+"username=signalbox\npassword=token-1\n", "--subject-token-file", file).wants(0)
	get("token-2")
	i.git("erase", gitAsks+"authtype=Bearer\ncredential=token-2\n", "--subject-token-file", file).wants(0)
	get("token-3")
	if r := i.git("approve-of-tomorrow", gitAsks).wants(0); r.out != "" {
		t.Errorf("an operation that nobody knows: %q", r.out)
	}
}

func TestGitCredentialSaysWhatIsMissing(t *testing.T) {
	i := newExchangeIssuer(t)
	for _, row := range []struct {
		code int
		want string
		args []string
	}{
		{2, "one operation is needed", []string{"--issuer", i.url, "--resource", gitResource}},
		{2, "--issuer is needed", []string{"--resource", gitResource, "get"}},
		{2, "--resource is needed", []string{"--issuer", i.url, "get"}},
		{2, "--server is needed", []string{"--issuer", i.url, "--resource", "urn:git", "get"}},
		{2, "--server is needed", []string{"--issuer", i.url, "--resource", "https://user@git.example.com", "get"}},
		{2, "standard input is that of git", []string{"--issuer", i.url, "--resource", gitResource, "--subject-token-file", "-", "get"}},
		{2, "standard input is that of git", []string{"--issuer", i.url, "--resource", gitResource, "--client-id", "a", "--client-secret-file", "-", "get"}},
		{2, "--client-secret-file is needed", []string{"--issuer", i.url, "--resource", gitResource, "--client-id", "a", "get"}},
		{2, "plain HTTP", []string{"--issuer", i.url, "--resource", "http://git.example.com", "get"}},
		{2, "plain HTTP", []string{"--issuer", "http://sts.example.com", "--resource", gitResource, "get"}},
		{1, "a projected volume", []string{"--issuer", i.url, "--resource", gitResource, "--subject-token-file", "/nonexistent/token", "get"}},
	} {
		r := execute(t, t.Context(), i.env, strings.NewReader(gitAsks), append([]string{"git-credential"}, row.args...)...)
		if r = r.wants(row.code, row.want).inWords(); r.out != "" {
			t.Errorf("%v: it printed %s", row.args, r.out)
		}
	}
}

// Git itself, as far as a helper goes: it asks, and it says which was refused.
func TestGitItselfAsksTheHelper(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("NOT TESTED: there is no git")
	}
	i := newExchangeIssuer(t)
	i.answer = i.numbered
	file := i.file(proof(t, "pod-1", "1"))
	dir := t.TempDir()
	// What Git says goes into files, and the answers come from there: the command of a test is no program.
	helper := filepath.Join(dir, "helper")
	script := "#!/bin/sh\ncat > " + dir + "/$1.said\ncat " + dir + "/$1.answer 2>/dev/null\n:\n"
	if err := os.WriteFile(helper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	run := func(operation, said string) string {
		command := exec.CommandContext(t.Context(), git, "-c", "credential.helper=", "-c", "credential.helper="+helper, "credential", operation)
		command.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "HOME="+dir)
		command.Stdin = strings.NewReader(said)
		out, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("git credential %s: %v: %s", operation, err, out)
		}
		return string(out)
	}
	answer := i.git("get", gitAsks, "--subject-token-file", file).wants(0).out
	if err := os.WriteFile(filepath.Join(dir, "get.answer"), []byte(answer), 0o600); err != nil {
		t.Fatal(err)
	}
	filled := run("fill", gitAsks+"\n")
	if !strings.Contains(filled, "password=token-1\n") || !strings.Contains(filled, "username=signalbox\n") {
		t.Fatalf("git understood %q", filled)
	}
	run("reject", filled)
	said, err := os.ReadFile(filepath.Join(dir, "erase.said"))
	if err != nil {
		t.Fatal(err)
	}
	i.git("erase", string(said), "--subject-token-file", file).wants(0)
	i.git("get", gitAsks, "--subject-token-file", file).wants(0, "password=token-2")
}

func FuzzGitRequest(f *testing.F) {
	f.Add("capability[]=authtype\nprotocol=https\nhost=git.example.com\n\n")
	f.Add("protocol=https\nhost=git.example.com\nhost=x")
	f.Fuzz(func(t *testing.T, said string) {
		r, err := readGitRequest(strings.NewReader(said))
		if err != nil {
			return
		}
		for key, value := range r.fields {
			if key == "" || strings.ContainsAny(value, "\r\n\x00") {
				t.Errorf("%q=%q", key, value)
			}
		}
		var out strings.Builder
		_ = r.answer(&out, tokencache.Token{Value: "t", Expires: time.Unix(1000, 0)})
		if !strings.Contains(out.String(), "password_expiry_utc=") {
			t.Error(out.String())
		}
	})
}
