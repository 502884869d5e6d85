package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/journal/verify"
	"github.com/signalbox-sts/signalbox/internal/journal/witness"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

// JournalProof gathers all that a node's own configuration can say about its journal,
// which is in cfg.Journal.Dir, and a witness about it, unless witnessFile is empty. Other
// machines keep the journals of their nodes.
func JournalProof(ctx context.Context, cfg *config.Config, witnessFile string) (options verify.Options, err error) {
	master, err := masterKeyOf(cfg)
	if err != nil {
		return options, err
	}
	if options, err = KeyProof(master, witnessFile); err != nil {
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

// KeyProof is what the master key alone can say: which checkpoints, and which notes of
// a witness, are signed.
func KeyProof(master keys.MasterKey, witnessFile string) (options verify.Options, err error) {
	if options.CheckSignature, err = checkpointChecker(master); err != nil || witnessFile == "" {
		return options, err
	}
	f, err := os.Open(witnessFile)
	if err != nil {
		return options, err
	}
	defer f.Close()
	if options.Witnessed, options.TornNote, err = witness.Read(f, witnessKey(master).Public().(ed25519.PublicKey)); err != nil {
		return options, fmt.Errorf("the witness's notes in %s: %w", witnessFile, err)
	}
	return options, nil
}

// checkpointChecker verifies what journalSigner signed.
func checkpointChecker(master keys.MasterKey) (func(jws string) ([]byte, error), error) {
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
