package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// alone is the least that an environment must say when there is no file.
func alone(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	return []string{
		"SIGNALBOX_ISSUER=https://sts.example.com",
		"SIGNALBOX_TLS_OFF=true", "SIGNALBOX_TLS_TRUSTED_PROXIES=10.0.0.0/8",
		"SIGNALBOX_SECRETS_MASTER_KEY_FILE=" + write(t, dir, "master.key", testKey),
		"SIGNALBOX_SECRETS_OPERATOR_SECRET_FILE=" + write(t, dir, "ops.secret", operatorSecret+"\n"),
	}
}

const operatorSecret = "an-operator-of-trains-and-signals"

func TestTheEnvironmentAloneIsAConfiguration(t *testing.T) {
	c, err := Load("", alone(t))
	if err != nil {
		t.Fatal(err)
	}
	if c.Issuer != "https://sts.example.com" || c.TLS.Mode != TLSOff || c.Listen.Admin != "127.0.0.1:9090" || c.Storage.URL.Engine() != "sqlite" {
		t.Errorf("%+v", c)
	}
	if len(c.Files) != 2 {
		t.Errorf("it watches %v, not the two files that the variables name", c.Files)
	}
	if len(c.Clients) != 1 || c.Clients[0].ClientID != Operator || c.Clients[0].Secret.Reveal() != operatorSecret {
		t.Fatalf("clients: %+v", c.Clients)
	}
	if _, err := authority.NewClient(c.Clients[0].ClientMetadata); err != nil {
		t.Errorf("the operator is no client: %v", err)
	}
}

func TestWhatIsMissingInTheEnvironmentIsNamedByItsVariable(t *testing.T) {
	without := func(name string) []string {
		return slices.DeleteFunc(alone(t), func(kv string) bool { return strings.HasPrefix(kv, name) })
	}
	for _, row := range []struct {
		name string
		env  []string
		says string
	}{
		{"nothing is set", nil, "set SIGNALBOX_ISSUER to the URL"},
		{"nothing about TLS", without("SIGNALBOX_TLS"), "set SIGNALBOX_TLS_CERT_FILE and SIGNALBOX_TLS_KEY_FILE, or"},
		{"no proxy", without("SIGNALBOX_TLS_TRUSTED"), "set SIGNALBOX_TLS_TRUSTED_PROXIES to the network"},
		{"a certificate without a key", append(without("SIGNALBOX_TLS"), "SIGNALBOX_TLS_CERT_FILE=/x"), "set SIGNALBOX_TLS_KEY_FILE"},
		{"a key without a certificate", append(without("SIGNALBOX_TLS"), "SIGNALBOX_TLS_KEY_FILE=/x"), "set SIGNALBOX_TLS_CERT_FILE"},
		{"no master key", without("SIGNALBOX_SECRETS_MASTER"), "set SIGNALBOX_SECRETS_MASTER_KEY_FILE to its name"},
		{"a mistyped variable", append(alone(t), "SIGNALBOX_ISUER=x"), "did you mean SIGNALBOX_ISSUER?"},
		{"a short operator's secret", append(without("SIGNALBOX_SECRETS_OPERATOR"), "SIGNALBOX_SECRETS_OPERATOR_SECRET=short"), "fewer than 22 characters"},
		{"the operator's secret twice", append(alone(t), "SIGNALBOX_SECRETS_OPERATOR_SECRET="+operatorSecret), "is set as well"},
	} {
		_, err := Load("", row.env)
		var found Errors
		if !errors.As(err, &found) {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		if text := err.Error(); !strings.Contains(text, row.says) || strings.Contains(text, ":1:1") || strings.Contains(text, "add `") || strings.Contains(text, operatorSecret) {
			t.Errorf("%s:\n%s", row.name, text)
		}
	}
}

func TestTheOperatorIsDeclaredLikeAClientOfTheFile(t *testing.T) {
	declaration := func(env ...string) [32]byte { return mustParse(t, good, env...).Declaration() }
	with := declaration("SIGNALBOX_SECRETS_OPERATOR_SECRET=" + operatorSecret)
	if with == declaration() {
		t.Error("an operator more is no change")
	}
	if with == declaration("SIGNALBOX_SECRETS_OPERATOR_SECRET="+operatorSecret+"2") {
		t.Error("another secret of the operator is no change: the old one would stay good")
	}
	two := strings.Replace(good, "client_id: api", "client_id: "+Operator, 1)
	two = strings.Replace(two, "introspection_clients: [api]", "introspection_clients: ["+Operator+"]", 1)
	if _, err := parse(t, two, "SIGNALBOX_SECRETS_OPERATOR_SECRET="+operatorSecret); err == nil || !strings.Contains(err.Error(), "is beside a client ops in the file") {
		t.Errorf("two operators: %v", err)
	}
	if _, err := parse(t, good+"secrets: {operator_secret: "+operatorSecret+"}\n"); err == nil || !strings.Contains(err.Error(), "must not be in the file") {
		t.Errorf("the secret in the file: %v", err)
	}
}

func TestAdminAddressIsThatOfTheServiceThatRuns(t *testing.T) {
	dir := t.TempDir()
	for _, row := range []struct {
		name, text, env, want string
	}{
		{"written", strings.Replace(good, `"127.0.0.1:8443"}`, `"127.0.0.1:8443", admin: "127.0.0.1:9191"}`, 1), "", "127.0.0.1:9191"},
		{"the default", good, "", "127.0.0.1:9090"},
		{"the environment overrides", good, "SIGNALBOX_LISTEN_ADMIN=:9292", ":9292"},
		{"a mistake elsewhere, since the file of before is still in use", "resourcs: []\nlisten: {admin: \":9191\"}\n", "", ":9191"},
		{"half a file", "listen: {admin: ", "", "127.0.0.1:9090"},
		{"half a file beside the environment", "listen: {admin: ", "SIGNALBOX_LISTEN_ADMIN=:9292", ":9292"},
		{"no address", "listen: {admin: 9090x}\n", "", ""},
	} {
		file := write(t, dir, "signalbox.yaml", row.text)
		got, err := AdminAddress(file, []string{row.env})
		if got != row.want || (err != nil) != (row.want == "") {
			t.Errorf("%s: %q, %v", row.name, got, err)
		}
	}
	if got, err := AdminAddress("", nil); got != "127.0.0.1:9090" || err != nil {
		t.Errorf("an empty environment: %q, %v", got, err)
	}
	if _, err := AdminAddress(filepath.Join(dir, "none.yaml"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
