package node

import (
	"context"
	"crypto/ed25519"
	"os"
	"path/filepath"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/journal/witness"
	"github.com/signalbox-sts/signalbox/internal/keys"
)

// openJournal opens the audit record, and refuses a folder that lacks what the
// database remembers of it. Its checkpoints are signed with a key of their own, derived
// from the master key: signing keys go, the journal stays.
func (n *Node) openJournal(ctx context.Context, cfg *config.Config, acceptLoss bool) error {
	signer, err := journalSigner(n.master)
	if err != nil {
		return err
	}
	home := journal.Home{Dir: cfg.Journal.Dir, Place: placeOf(cfg), Store: n.db, AcceptLoss: acceptLoss}
	n.journal, err = journal.Start(ctx, home, journal.Options{
		Now: n.now, Sign: signer.Sign, Witness: witnessOf(cfg, n.master), Synced: n.metrics.JournalSynced, Log: n.log,
	})
	return err
}

func witnessOf(cfg *config.Config, master keys.MasterKey) witness.Show {
	signer := witness.NewSigner(cfg.Issuer, witnessKey(master))
	switch w := cfg.Journal.Witness; {
	case w.IsZero():
		return nil
	case w.File() != "":
		return witness.ToFile(w.File(), signer)
	default:
		return witness.ToURL(w.URL(), signer)
	}
}

func witnessKey(master keys.MasterKey) ed25519.PrivateKey {
	seed := master.Derive("journal witness")
	return ed25519.NewKeyFromSeed(seed[:])
}

// placeOf says where this node's journal is, so that the database notices when it is
// not there any more. An SQLite file has one machine, whatever its name is today.
func placeOf(cfg *config.Config) string {
	dir, err := filepath.Abs(cfg.Journal.Dir)
	if err != nil {
		dir = cfg.Journal.Dir // as it is in the file
	}
	if cfg.Storage.URL.Engine() == "sqlite" {
		return dir
	}
	host, _ := os.Hostname()
	return host + ":" + dir
}

func journalSigner(master keys.MasterKey) (*jose.Signer, error) {
	seed := master.Derive("journal checkpoint")
	return jose.NewSigner("journal", jose.EdDSA, "signalbox-journal+jwt", ed25519.NewKeyFromSeed(seed[:]))
}

// record and tally are the one way into the journal: they add what is
// known about the request.
func (n *Node) record(ctx context.Context, e authority.Event) error {
	n.complete(ctx, &e)
	if hook := n.hooks.Record; hook != nil {
		if err := hook(ctx, e); err != nil {
			return err
		}
	}
	return n.journal.Append(ctx, e)
}

func (n *Node) tally(ctx context.Context, e authority.Event) {
	n.complete(ctx, &e)
	if hook := n.hooks.Tally; hook != nil {
		hook(e)
	}
	n.journal.Tally(e)
}

func (n *Node) complete(ctx context.Context, e *authority.Event) {
	req := httpx.RequestOf(ctx)
	if e.RequestID == "" && e.Remote == "" {
		e.RequestID, e.Remote = req.ID, req.Remote
	}
	if e.At.IsZero() {
		e.At = n.now()
	}
	if n.metrics != nil {
		n.metrics.Event(*e)
	}
}
