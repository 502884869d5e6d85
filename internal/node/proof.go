package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
	"github.com/signalbox-sts/signalbox/internal/journal/verify"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

// JournalProof gathers all that a node's own configuration can say about its
// journal, which is in cfg.Journal.Dir.
func JournalProof(ctx context.Context, cfg *config.Config) (options verify.Options, err error) {
	dir := cfg.Journal.Dir
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
	heads, err := db.JournalHeads(ctx)
	if err := errors.Join(err, db.Close()); err != nil {
		return options, err
	}
	own, err := os.ReadFile(nodeFile(dir))
	if err != nil {
		return options, fmt.Errorf("whose journal this is: %w", err)
	}
	for _, h := range heads {
		// Other nodes keep their journals elsewhere, unless they were gathered here.
		here, err := filepath.Glob(filepath.Join(dir, "journal-"+h.Node+"-*"))
		if err == nil && len(here) == 0 && h.Node != strings.TrimSpace(string(own)) {
			continue
		}
		options.Anchors = append(options.Anchors, format.Checkpoint{Node: h.Node, Seq: uint64(h.Seq), Head: h.Head, Time: h.At})
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
