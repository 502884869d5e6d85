package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigExplainsTheAgentsFileToo(t *testing.T) {
	for _, row := range []struct {
		code int
		want string
		args []string
	}{
		{0, "replaced in one step", []string{"explain", "--for", "agent", "tokens.file.path"}},
		{1, "there is no key", []string{"explain", "tokens.file.path"}},
		{0, "Signalbox agent", []string{"schema", "--for", "agent"}},
		{2, "--for must be", []string{"schema", "--for", "agnet"}},
	} {
		var out strings.Builder
		code := Run(t.Context(), &Environment{In: strings.NewReader(""), Out: &out, Err: &out, Getenv: func(string) string { return "" }}, append([]string{"config"}, row.args...))
		if code != row.code || !strings.Contains(out.String(), row.want) {
			t.Errorf("%v: exit %d: %s", row.args, code, out.String())
		}
	}
}

// TestInitTakesOnlyAnIssuerThatServeTakes: with the words of config validate.
func TestInitTakesOnlyAnIssuerThatServeTakes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "signalbox.yaml")
	in := strings.NewReader("")
	for issuer, words := range map[string]string{
		"foo":                      "expected an https URL",
		"":                         "",
		"http://sts.example.com":   "http is accepted only for a loopback address",
		"https://sts.example.com/": "ends with a slash: write https://sts.example.com",
		"https://a.example\x1b[2J": "",
		"https://a\" , b: c":       "",
	} {
		r := execute(t, t.Context(), nil, in, "init", "--issuer", issuer, "--output", file).wants(2, "--issuer: "+words)
		if strings.ContainsAny(r.err, "\x1b") || r.out != "" {
			t.Errorf("%q: %q %q", issuer, r.out, r.err)
		}
		if _, err := os.Stat(file); err == nil {
			t.Fatalf("%q: a file was written", issuer)
		}
	}
	for _, issuer := range []string{"https://sts.example.com", "http://127.0.0.1:8443", "https://sts.example.com/tenant"} {
		if r := execute(t, t.Context(), nil, in, "init", "--issuer", issuer).wants(0); !strings.Contains(r.out, issuer) {
			t.Errorf("%s: %s", issuer, r.out)
		}
	}
}

// TestInitLeadsToAnOperatorWhoIsIn: what it says to do next works, word by word.
func TestInitLeadsToAnOperatorWhoIsIn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a new folder")
	vars := home(t)
	run := func(args ...string) result {
		t.Helper()
		return execute(t, t.Context(), vars, strings.NewReader(""), args...)
	}
	public, private := freePort(t), freePort(t)
	issuer := "http://127.0.0.1:" + public
	r := run("init", "--dir", dir, "--issuer", issuer).wants(0, "signalbox context create local --issuer "+issuer+" --client-id ops --client-secret-file '"+dir+"/ops.secret'")
	if r.out != "" || strings.Contains(r.err, "tls.crt") {
		t.Errorf("a loopback issuer needs no certificate, and nothing is data: %s%s", r.out, r.err)
	}
	before := map[string]string{}
	for _, name := range []string{"signalbox.yaml", "master.key", "ops.secret"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		info, stat := os.Stat(filepath.Join(dir, name))
		if err != nil || stat != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%s: %v, %v", name, err, info)
		}
		if before[name] = string(data); name != "signalbox.yaml" && strings.Contains(r.out+r.err, strings.TrimSpace(string(data))) {
			t.Errorf("%s is shown", name)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
	file := filepath.Join(dir, "signalbox.yaml")
	run("config", "validate", file).wants(0, "2 clients")
	text := strings.NewReplacer(":8443", "127.0.0.1:"+public, "127.0.0.1:9090", "127.0.0.1:"+private).Replace(before["signalbox.yaml"])
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	log := newPrompted(`"serving"`)
	ended := make(chan int, 1)
	go func() {
		ended <- Run(ctx, &Environment{In: strings.NewReader(""), Out: io.Discard, Err: log, Getenv: func(string) string { return "" }}, []string{"serve", "--config", file})
	}()
	defer func() { stop(); <-ended }()
	within(t, log.String(), log.said)
	run("context", "create", "local", "--issuer", issuer, "--admin-url", "http://127.0.0.1:"+private, "--client-id", "ops", "--client-secret-file", filepath.Join(dir, "ops.secret")).wants(0)
	run("client", "list").wants(0, "ops")
	run("client", "create", "first", "--grant-type", "client_credentials").wants(0)

	run("init", "--dir", dir).wants(1, "master.key is there already and stays as it is: nothing was written")
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "signalbox.yaml"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("init", "--dir", other).wants(1, "signalbox.yaml is there already")
	if left, err := os.ReadDir(other); err != nil || len(left) != 1 {
		t.Errorf("a refused init left files: %v, %v", left, err)
	}
	run("init", "--dir", other, "--output", "x").wants(2, "not both")
	r = run("init", "--dir", filepath.Join(other, "prod"), "--data", "/var/lib/signalbox").wants(0, "put the certificate for sts.example.com", "tls.crt", "context create sts ")
	if data, err := os.ReadFile(filepath.Join(other, "prod", "signalbox.yaml")); err != nil || !strings.Contains(string(data), `url: "sqlite:/var/lib/signalbox/signalbox.db"`) {
		t.Errorf("%v: %s", err, data)
	}
}

// TestInitNamesTheDataFolderFromHere: a path in the configuration starts at the
// folder of the configuration, and nobody who types one at a prompt means that.
func TestInitNamesTheDataFolderFromHere(t *testing.T) {
	here := t.TempDir()
	t.Chdir(here)
	want := `url: "sqlite:` + filepath.ToSlash(filepath.Join(here, "data", "signalbox.db")) + `"`
	run := func(args ...string) result {
		t.Helper()
		return execute(t, t.Context(), nil, strings.NewReader(""), append([]string{"init", "--issuer", "http://127.0.0.1:8443"}, args...)...)
	}
	hints := []string{}
	if os.Getuid() == 0 {
		hints = []string{"install -d -m 0700 -o signalbox " + filepath.Join(here, "data") + "\n"}
	}
	run("--data", "data").wants(0, want)
	run("--dir", "etc", "--data", "data").wants(0, append(hints, "signalbox serve --config etc/signalbox.yaml")...)
	run("--output", "etc/other.yaml", "--data", "./data").wants(0, hints...)
	for _, file := range []string{"etc/signalbox.yaml", "etc/other.yaml"} {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v: no %s", file, err, want)
		}
	}
	run("--dir", "beside").wants(0) // by default the data are beside the configuration
	if text, err := os.ReadFile("beside/signalbox.yaml"); err != nil || !strings.Contains(string(text), `url: "sqlite:data/signalbox.db"`) {
		t.Errorf("%v", err)
	}
}

// TestConfigurationErrorsEndWithTheirLastLine, and not with an empty one.
func TestConfigurationErrorsEndWithTheirLastLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "signalbox.yaml")
	if err := os.WriteFile(file, []byte("issuer: x\nlisten: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"config", "validate", file}, {"serve", "--config", file}} {
		r := execute(t, t.Context(), nil, strings.NewReader(""), args...).wants(1, "issuer: expected an https URL", "\n\n")
		if !strings.HasSuffix(r.err, "\n") || strings.HasSuffix(r.err, "\n\n") {
			t.Errorf("%v: %q", args, r.err)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

func TestConfigValidateForPrograms(t *testing.T) {
	dir := t.TempDir()
	execute(t, t.Context(), nil, strings.NewReader(""), "init", "--dir", dir, "--issuer", "http://127.0.0.1:8443").wants(0)
	file := filepath.Join(dir, "signalbox.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	validate := func(in string, code int, args ...string) (v validation) {
		t.Helper()
		r := execute(t, t.Context(), nil, strings.NewReader(in), append([]string{"config", "validate", "-o", "json"}, args...)...).wants(code)
		if r.err != "" {
			t.Errorf("%v: words beside the data: %s", args, r.err)
		}
		r.into(&v)
		if v.Valid != (code == 0) || v.Valid != (len(v.Errors) == 0) {
			t.Errorf("%v: %+v", args, v)
		}
		return v
	}
	if v := validate("", 0, file); v.Issuer != "http://127.0.0.1:8443" || v.Clients != 2 || len(v.Warnings) != 0 {
		t.Errorf("%+v", v)
	}
	// From a stream, paths start at the current folder.
	absolute := strings.NewReplacer("master.key\n", filepath.Join(dir, "master.key")+"\n", `"ops.secret"`, filepath.Join(dir, "ops.secret")).Replace(string(text))
	absolute = strings.Replace(absolute, `"127.0.0.1:8443"`, `":8443"`, 1) // a warning: plain HTTP that others can reach
	if v := validate(absolute, 0, "--config", "-"); v.File != "standard input" || len(v.Warnings) != 1 {
		t.Errorf("%+v", v)
	}
	v := validate(strings.Replace(absolute, "\nlisten:", "\nlisen:", 1), 1, "-")
	if len(v.Errors) != 1 || v.Errors[0].Key != "lisen" || v.Errors[0].File != "standard input" || v.Errors[0].Line == 0 || v.Errors[0].Column != 1 || v.Errors[0].Fix != "did you mean listen?" {
		t.Errorf("%+v", v)
	}
	policy := absolute + "\npolicies: [{name: p, from: {user_group: sre}, to: {cluster: spoke}}]\n"
	if v := validate(policy, 1, "-"); len(v.Errors) != 1 || v.Errors[0].Key != "policies[0].to.cluster" || v.Errors[0].Line == 0 || !strings.Contains(v.Errors[0].Fix, "--cluster spoke") {
		t.Errorf("a policy to a cluster of nobody: %+v", v)
	}
	validate(policy, 0, "-", "--cluster", "spoke")
	if v := validate("", 1, filepath.Join(dir, "nothing.yaml")); len(v.Errors) != 1 || !strings.Contains(v.Errors[0].Problem, "no such file") {
		t.Errorf("%+v", v)
	}
	if v := validate(strings.Repeat("x", maxConfig+1), 1, "-"); !strings.Contains(v.Errors[0].Problem, "larger than") {
		t.Errorf("%+v", v)
	}
	execute(t, t.Context(), nil, strings.NewReader(absolute), "config", "validate", "-").wants(0, "standard input is valid: issuer http://127.0.0.1:8443, 2 clients")
	execute(t, t.Context(), nil, strings.NewReader("lisen: 1"), "config", "validate", "-").wants(1, "standard input:1:1: lisen: unknown key")
	execute(t, t.Context(), nil, strings.NewReader(absolute), "config", "validate", "-", "-o", "yaml").wants(0, "valid: true\n")
	execute(t, t.Context(), nil, strings.NewReader(absolute), "config", "validate", "-", "-o", "name").wants(2, "text, json or yaml")
}

// TestConfigValidateCompilesPolicies: what is wrong inside a condition is shown
// where it is in the file, and so are two policies of which none could be picked.
func TestConfigValidateCompilesPolicies(t *testing.T) {
	text := policyConfig + "  - name: broken\n    from: {user_group: dev}\n    when: |\n      subject == \"ada\" &&\n        subjects\n    to: {cluster: spoke-a}\n" +
		"  - name: twin\n    from: {user_group: sre}\n    to: {cluster: spoke-a}\n"
	file, _ := policyFiles(t, text)
	line := strings.Count(text[:strings.Index(text, "subjects")], "\n") + 1
	execute(t, t.Context(), nil, strings.NewReader(""), "config", "validate", file).
		wants(1, fmt.Sprintf("signalbox.yaml:%d:9: policies[4].when: undeclared reference to 'subjects'", line), "policies[5].from: both this policy and \"people\"")
}
