package node

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/journal/verify"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

// JournalProof gathers all that a node's own configuration can say about its journal,
// which is in cfg.Journal.Dir. Other machines keep the journals of their nodes.
func JournalProof(ctx context.Context, cfg *config.Config) (options verify.Options, err error) {
	master, err := masterKeyOf(cfg)
	if err != nil {
		return options, err
	}
	if options.CheckSignature, err = CheckpointChecker(master); err != nil {
		return options, err
	}
	if cfg.Storage.URL.Engine() == "sqlite" {
		if _, err := os.Stat(cfg.Storage.URL.Path()); err != nil {
			return options, fmt.Errorf("the database that anchors the journal: %w", err)
		}
	}
	db, err := sqldb.Open(ctx, cfg.Storage.URL.Reveal())
	if err != nil {
		return options, err
	}
	options.Known, err = db.Journals(ctx)
	if err := errors.Join(err, db.Close()); err != nil {
		return options, err
	}
	if cfg.Storage.URL.Engine() != "sqlite" {
		here := placeOf(cfg)
		options.Elsewhere = func(place string) bool { return place != here }
	}
	return options, nil
}

// CheckpointChecker verifies what journalSigner signed.
func CheckpointChecker(master keys.MasterKey) (func(jws string) ([]byte, error), error) {
	signer, err := journalSigner(master)
	if err != nil {
		return nil, err
	}
	public := jose.KeySet{signer.PublicKey()}
	want := jose.Expect{Algorithms: []jose.Algorithm{signer.Algorithm()}, Types: []string{signer.Type()}}
	return func(jws string) ([]byte, error) {
		verified, err := jose.Verify(jws, want, public.Find)
		if err != nil {
			return nil, err
		}
		return verified.Claims.JSON(), nil
	}, nil
}
