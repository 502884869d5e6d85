package logins

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/zalando/go-keyring"
)

// keyringService is what the keyring calls our entries.
const keyringService = "signalbox"

// keyringUser tells the entries apart.
func keyringUser(l Login) string { return l.Issuer + " " + l.ID }

// keyringLimit is for a person who has to unlock the keyring first.
const keyringLimit = 30 * time.Second

func encodeKey(key [32]byte) []byte {
	return []byte(base64.RawStdEncoding.EncodeToString(key[:]) + "\n")
}

func decodeKey(text []byte) (key [32]byte, err error) {
	data, err := base64.RawStdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(data) != len(key) {
		return key, errors.New("it is not a key")
	}
	return [32]byte(data), nil
}

// keepInKeyring fails where there is no keyring, or it is not unlocked in time.
func keepInKeyring(ctx context.Context, l Login, key [32]byte) error {
	_, err := askKeyring(ctx, func() (string, error) {
		return "", keyring.Set(keyringService, keyringUser(l), strings.TrimSpace(string(encodeKey(key))))
	})
	return err
}

func keyOfKeyring(ctx context.Context, l Login) ([32]byte, error) {
	text, err := askKeyring(ctx, func() (string, error) { return keyring.Get(keyringService, keyringUser(l)) })
	if err != nil {
		return [32]byte{}, fmt.Errorf("it is in the system's keyring: %w", err)
	}
	return decodeKey([]byte(text))
}

// removeFromKeyring removes the key, if it is there: without the file it opens nothing.
func removeFromKeyring(ctx context.Context, l Login) {
	_, _ = askKeyring(ctx, func() (string, error) { return "", keyring.Delete(keyringService, keyringUser(l)) })
}

// askKeyring waits for the keyring for a limited time. The library has no way to
// stop it.
func askKeyring(ctx context.Context, ask func() (string, error)) (string, error) {
	if !hasKeyring() {
		return "", errors.New("there is none in this session")
	}
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := ask()
		answers <- answer{text, err}
	}()
	limit := time.NewTimer(keyringLimit)
	defer limit.Stop()
	select {
	case a := <-answers:
		return a.text, a.err
	case <-ctx.Done():
		return "", ctx.Err()
	case <-limit.C:
		return "", errors.New("it does not answer: is it locked?")
	}
}

// hasKeyring is a variable for tests, whose keyring is in memory.
var hasKeyring = func() bool {
	switch runtime.GOOS {
	case "darwin", "windows":
		return true
	}
	// Without a session bus the library would start one, which nobody has asked for.
	if os.Getenv("DBUS_SESSION_BUS_ADDRESS") != "" {
		return true
	}
	_, err := os.Stat(fmt.Sprintf("/run/user/%d/bus", os.Getuid()))
	return err == nil
}
