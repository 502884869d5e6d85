package cli

import (
	"context"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/password"
)

func TestUserHashPasswordNeedsNoService(t *testing.T) {
	run := func(in string, args ...string) result {
		t.Helper()
		return execute(t, context.Background(), nil, strings.NewReader(in), append([]string{"user", "hash-password"}, args...)...)
	}
	hash := strings.TrimSuffix(run("correct horse\n", "--password-file", "-").wants(0).out, "\n")
	if right, err := password.Verify(t.Context(), password.Caller{}, hash, "correct horse"); !right || err != nil {
		t.Errorf("%q: %v, %v", hash, right, err)
	}
	run("correct horse", "--password-file", "-", "-o", "json").wants(0, `"password_hash": "$argon2id$`)
	run("", "--password-file", "-").wants(1, "empty")
	run("1234567", "--password-file", "-").wants(1, "shorter than 8")
	run(strings.Repeat("x", password.MaxLength+1), "--password-file", "-").wants(1, "1024 bytes")
	run("").wants(2, "--password-file")
	run("", "ada").wants(2)
	run("correct horse", "--password-file", "-", "-o", "name").wants(2, "text, json or yaml")
	run("", "--help").wants(0, "signalbox user hash-password --password-file -")
}

// Hashes of one cost cannot be told apart by the time of a sign-in, so the
// configuration recommends ours.
func TestTheConfigurationRecommendsOurOwnCost(t *testing.T) {
	hash, err := password.Hash("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	cost := strings.Split(hash, "$")[3]
	text, err := config.Explain("users.password_hash")
	if err != nil || !strings.Contains(text, cost) || !strings.Contains(text, "signalbox user hash-password") {
		t.Errorf("%v: want %s in %s", err, cost, text)
	}
}
