//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/config"
)

// The service must accept what the bench writes, also after its configuration
// has changed.
func TestTheServiceAcceptsTheConfiguration(t *testing.T) {
	for _, storage := range []string{"sqlite:/var/lib/signalbox/signalbox.db", "postgres://bench@127.0.0.1:5432/sqlite?sslmode=disable"} {
		b := &bench{dir: t.TempDir()}
		e, err := b.newEnv("sqlite")
		if err != nil {
			t.Fatal(err)
		}
		e.storage = storage
		if err := e.writeConfig(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(e.dir, "signalbox.yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.Parse(file, text, nil); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}
