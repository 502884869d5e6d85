package config

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/config/source"
)

func TestAHintForAPortLeadsToNoSecondError(t *testing.T) {
	for _, wrong := range []string{"public: 8443", "public: '8443'", "admin: 9090", "admin: \"9090\""} {
		_, err := parse(t, with(t, `listen: {public: "127.0.0.1:8443"}`, "listen: {"+wrong+"}"))
		var found Errors
		if !errors.As(err, &found) || len(found) != 1 {
			t.Fatalf("%s: %v", wrong, err)
		}
		fix, ok := strings.CutPrefix(found[0].Fix, "write ")
		if !ok {
			t.Fatalf("%s: %s", wrong, found[0].Fix)
		}
		name, _, _ := strings.Cut(wrong, ":")
		if _, err := parse(t, with(t, `listen: {public: "127.0.0.1:8443"}`, "listen: {"+name+": "+fix+"}")); err != nil {
			t.Errorf("%s, with %s: %v", wrong, fix, err)
		}
	}
}

func TestASecretDoesNotLookLikeAFile(t *testing.T) {
	for _, file := range []string{
		"master.key", "ops.secret", "web-secret.txt", "a.b.pem", "./web", "../web", "/run/secrets/web", "/etc/signalbox/Web.Secret", "secrets/web", `C:\signalbox\web`, "~/web",
	} {
		if !source.LooksLikeFile(file) {
			t.Errorf("%s is a file's name", file)
		}
	}
	for _, secret := range []string{
		"hunter2", "web", "correct horse battery.staple", "sbx_cs_abc.key", "eyJhbGciOiJub25lIn0.e30.abc", "abc+def.key", "Tr0ub4dor", "hunter2/hunter2", "",
		"5f4dcc3b5aa765d61d8327deb882cf99", "/AbCdEf123456789012345", "S3cret/AbCdEf123456789012345",
	} {
		if source.LooksLikeFile(secret) {
			t.Errorf("%s may be a secret", secret)
		}
	}
	for range 2000 {
		var random [32]byte
		_, _ = rand.Read(random[:])
		for _, secret := range []string{
			hex.EncodeToString(random[:]), base64.StdEncoding.EncodeToString(random[:]), base64.RawURLEncoding.EncodeToString(random[:]),
		} {
			if source.LooksLikeFile(secret) {
				t.Fatalf("%s may be a secret", secret)
			}
		}
	}
}
