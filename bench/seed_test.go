//go:build linux

package main

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

func TestSeedStoresGrantsThatStand(t *testing.T) {
	ctx := context.Background()
	url := "sqlite:" + filepath.Join(t.TempDir(), "signalbox.db")
	const issuer, count = "http://127.0.0.1:1", 700
	if err := seedGrants(ctx, url, issuer, count); err != nil {
		t.Fatal(err)
	}
	db, err := sqldb.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if n, err := db.CountGrants(ctx, authority.GrantFilter{ClientID: webID, ActiveOnly: true, AliveAt: time.Now()}); err != nil || n != count {
		t.Errorf("%d grants, %v; want %d", n, err, count)
	}
}
