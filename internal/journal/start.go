package journal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

// Home is where a journal belongs, and who remembers it there.
type Home struct {
	Dir string
	// Place names the machine and the folder: the same text at every start there, and
	// at no other place.
	Place string
	Store authority.JournalStore
	// AcceptLoss starts where Start would refuse with a LostError: under a new name,
	// beside what is left of the old journal, and with the loss on record in the store
	// and in the new journal.
	AcceptLoss bool
}

// Start opens the journal that belongs in home, under the name that the folder keeps,
// and with the head that the store remembers. Options.Anchored and Options.Anchor are
// its own business.
func Start(ctx context.Context, home Home, opts Options) (*Journal, error) {
	lock, err := claim(home.Dir)
	if err != nil {
		return nil, err
	}
	s := &start{Home: home, opts: opts}
	if s.opts.Now == nil {
		s.opts.Now = time.Now
	}
	j, err := s.open(ctx, lock)
	if err == nil && home.AcceptLoss {
		j.log.Warn("no record is lost: remove --accept-journal-loss, so that it is not there when one is")
	}
	var lost *LostError
	if !errors.As(err, &lost) || !home.AcceptLoss {
		return j, err
	}
	if lock, err = claim(home.Dir); err != nil {
		return nil, err
	}
	if err := s.accept(ctx, lost); err != nil {
		lock.Close()
		return nil, fmt.Errorf("journal: the loss could not be recorded: %w", err)
	}
	return s.open(ctx, lock)
}

type start struct {
	Home
	opts Options
}

// open gives lock back if it fails.
func (s *start) open(ctx context.Context, lock *os.File) (*Journal, error) {
	known, err := s.Store.Journals(ctx)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("journal: %w", err)
	}
	node, err := s.node(known)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("journal: %w", err)
	}
	mine := authority.Journal{Node: node, Head: authority.JournalHead{Hash: format.Genesis(node), At: s.opts.Now()}}
	i := slices.IndexFunc(known, func(k authority.Journal) bool { return k.Node == node })
	if i >= 0 {
		mine = known[i]
	} else if err := s.claim(ctx, &mine); err != nil { // before it holds a record
		lock.Close()
		return nil, err
	}
	s.opts.Anchored, s.opts.Anchor, s.opts.first = mine.Head, s.Store.SaveJournalHead, nil
	for _, k := range known {
		if k.Loss.By == node {
			s.opts.first = append(s.opts.first, authority.Event{Type: authority.EventLost, At: k.Loss.At, Target: k.Node, Reason: lossText(k)})
		}
	}
	j, err := openLocked(lock, s.Dir, node, s.opts)
	if err != nil {
		return nil, err
	}
	if mine.Place != s.Place { // the folder has moved, and is the right one
		if err := s.claim(ctx, &mine); err != nil {
			return nil, errors.Join(err, j.Close())
		}
	}
	return j, nil
}

// claim notes that the journal is here now.
func (s *start) claim(ctx context.Context, mine *authority.Journal) error {
	head, err := s.Store.StartJournal(ctx, mine.Node, s.Place, mine.Head)
	if errors.Is(err, authority.ErrConflict) {
		return fmt.Errorf("journal: at this moment node %s is started elsewhere, or another node here", mine.Node)
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	mine.Head, mine.Place = head, s.Place
	return nil
}

func lossText(k authority.Journal) string {
	return fmt.Sprintf("%s of node %s are lost; started with --accept-journal-loss. %s", recordRange(k.Loss.First, k.Loss.Last), k.Node, k.Loss.Reason)
}

// node finds the name of the journal that belongs here, and refuses to put another in
// its place.
func (s *start) node(known []authority.Journal) (string, error) {
	node, err := ReadNode(s.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	for _, k := range known {
		switch {
		case k.Node != node:
		case !k.RetiredAt.IsZero():
			return "", fmt.Errorf("node %s was retired on %s, so nothing is added to its journal: remove %s to start as a new node", node, moment(k.RetiredAt), nodeFile(s.Dir))
		case !k.Loss.At.IsZero():
			return "", fmt.Errorf("node %s ended on %s, when %s of it were lost and node %s took over: remove %s to start as a new node",
				node, moment(k.Loss.At), recordRange(k.Loss.First, k.Loss.Last), k.Loss.By, nodeFile(s.Dir))
		}
	}
	for _, k := range known {
		if k.Place != s.Place || k.Node == node || !k.RetiredAt.IsZero() || !k.Loss.At.IsZero() {
			continue
		}
		here, err := s.holds(k.Node)
		switch {
		case err != nil:
			return "", err
		case here && node == "": // only the name is gone
			return k.Node, s.writeNode(k.Node)
		case here:
			return "", fmt.Errorf("%s says %s, but the journal that belongs here is that of node %s: write that name into the file", nodeFile(s.Dir), node, k.Node)
		}
		return "", &LostError{Dir: s.Dir, Node: k.Node, First: 1, Last: k.Head.Seq,
			Why: fmt.Sprintf("%s holds no file of node %s, which wrote its journal here until %s (record %d)", s.Dir, k.Node, moment(k.Head.At), k.Head.Seq)}
	}
	if node == "" {
		node = newNode()
		err = s.writeNode(node)
		return node, err
	}
	return node, nil
}

func (s *start) holds(node string) (bool, error) {
	nodes, err := format.ListSegments(s.Dir)
	return len(nodes[node]) > 0, err
}

// accept gives lost.Node up for a new name. The name comes first: a crash before the
// loss is on record leaves a folder that is refused again.
func (s *start) accept(ctx context.Context, lost *LostError) error {
	node := newNode()
	if err := s.writeNode(node); err != nil {
		return err
	}
	return s.Store.LoseJournal(ctx, lost.Node, authority.JournalLoss{First: lost.First, Last: lost.Last, At: s.opts.Now(), By: node, Reason: lost.Why})
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func nodeFile(dir string) string { return filepath.Join(dir, "node") }

// ReadNode is the name of the node whose journal is in dir.
func ReadNode(dir string) (string, error) {
	data, err := os.ReadFile(nodeFile(dir))
	if err != nil {
		return "", err
	}
	node := strings.TrimSpace(string(data))
	if !format.IsNodeName(node) {
		return "", fmt.Errorf("%s does not hold a node's name", nodeFile(dir))
	}
	return node, nil
}

var notForNames = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// newNode makes a name. It is made once and kept in the folder, since a host name may
// change or be shared.
func newNode() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "node"
	}
	var suffix [4]byte
	_, _ = rand.Read(suffix[:]) // never fails
	return fmt.Sprintf("%.100s_%s", strings.TrimLeft(notForNames.ReplaceAllString(host, "-"), ".-"), hex.EncodeToString(suffix[:]))
}

// writeNode makes the name last, whole or not at all.
func (s *start) writeNode(node string) error {
	temporary := nodeFile(s.Dir) + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(node + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, nodeFile(s.Dir)); err != nil {
		return err
	}
	return syncDir(s.Dir)
}
