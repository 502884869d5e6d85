package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
	"github.com/signalbox-sts/signalbox/internal/keys"
)

// openJournal opens the audit record. Its checkpoints are signed with a key of
// their own, derived from the master key: signing keys go, the journal stays.
func (n *Node) openJournal(dir string) error {
	var err error
	if n.name, err = nodeName(dir); err != nil {
		return err
	}
	signer, err := journalSigner(n.master)
	if err != nil {
		return err
	}
	n.journal, err = journal.Open(dir, n.name, journal.Options{
		Sign: signer.Sign,
		Anchor: func(c format.Checkpoint) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := n.db.SaveJournalHead(ctx, c.Node, int64(c.Seq), c.Head, c.Time); err != nil {
				n.log.Warn("the journal's head could not be anchored in the database", "error", err)
			}
		},
	})
	return err
}

func journalSigner(master keys.MasterKey) (*jose.Signer, error) {
	seed := master.Derive("journal checkpoint")
	return jose.NewSigner("journal", jose.EdDSA, "signalbox-journal+jwt", ed25519.NewKeyFromSeed(seed[:]))
}

// nodeName is this node's name in the journal. It is made once and kept beside
// the journal, since a host name may change or be shared.
func nodeName(dir string) (string, error) {
	file := nodeFile(dir)
	if data, err := os.ReadFile(file); err == nil {
		return strings.TrimSpace(string(data)), nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "node"
	}
	host = regexp.MustCompile(`[^A-Za-z0-9.-]+`).ReplaceAllString(host, "-")
	var suffix [4]byte
	_, _ = rand.Read(suffix[:]) // never fails
	name := fmt.Sprintf("%.100s_%s", host, hex.EncodeToString(suffix[:]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return name, os.WriteFile(file, []byte(name+"\n"), 0o600)
}

func nodeFile(dir string) string { return filepath.Join(dir, "node") }

// record and tally are the one way into the journal: they add what is
// known about the request.
func (n *Node) record(ctx context.Context, e authority.Event) error {
	n.complete(ctx, &e)
	return n.journal.Append(ctx, e)
}

func (n *Node) tally(ctx context.Context, e authority.Event) {
	n.complete(ctx, &e)
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
