// Package witness shows heads of a journal to somebody outside of the machine, as
// checkpoints of C2SP (c2sp.org/tlog-checkpoint): signed notes (c2sp.org/signed-note)
// with the journal's name, the number of its last record, and that record's hash.
//
// The hash is the head of a chain and not the root of a Merkle tree: a witness keeps
// it, and has no consistency proof to ask for. Consistency is what `audit verify`
// proves, from the files.
package witness

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

// Signer makes the notes of one service.
type Signer struct {
	origin string
	key    ed25519.PrivateKey
}

// NewSigner is for the service with this issuer URL.
func NewSigner(issuer string, key ed25519.PrivateKey) Signer {
	_, origin, _ := strings.Cut(issuer, "://") // a schema-less URL, as C2SP wants it
	return Signer{origin: strings.TrimSuffix(origin, "/") + middle, key: key}
}

const middle = "/journal/"

// Note is the checkpoint of a head. Its origin line is <issuer without https://>/journal/<node>.
func (s Signer) Note(node string, head authority.JournalHead) ([]byte, error) {
	origin := s.origin + node
	n := note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", origin, head.Seq, base64.StdEncoding.EncodeToString(head.Hash[:]))}
	vkey, err := note.NewEd25519VerifierKey(origin, s.key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	return note.Sign(&n, signer{verifier, s.key})
}

type signer struct {
	note.Verifier // for the name and the key's id
	key           ed25519.PrivateKey
}

func (s signer) Sign(text []byte) ([]byte, error) { return ed25519.Sign(s.key, text), nil }

// maxNote bounds one note: three lines of text and the signatures of several witnesses.
const maxNote = 32 << 10

// Read reads notes that follow one another, as a witness has kept them, and gives the
// heads of each node. Every note must have been signed by key: a witness that took
// anything else is not one. What it has from other services, with other origins, is
// not for this key and is refused as well.
//
// Where the machine died while it wrote, the last line has no end. Its note, which
// begins at line torn, is skipped: it proves nothing, and those before it still do.
// Zero if none is torn. A note that is torn and followed by others is refused.
func Read(r io.Reader, key ed25519.PublicKey) (heads map[string][]authority.JournalHead, torn int, err error) {
	heads = map[string][]authority.JournalHead{}
	lines := bufio.NewReaderSize(r, maxNote)
	var text []byte
	number, began, signed, blank, whole := 0, 0, false, false, true
	end := func() error {
		if len(text) == 0 {
			return nil
		}
		node, head, err := open(text, key)
		if err != nil {
			return fmt.Errorf("line %d: %w", began, err)
		}
		heads[node] = append(heads[node], head)
		text, signed, blank = text[:0], false, false
		return nil
	}
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) || len(text)+len(line) > maxNote {
			return nil, 0, fmt.Errorf("line %d: the note is longer than %d bytes", max(began, number), maxNote)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, err
		}
		if len(line) == 0 && !whole {
			return heads, began, nil
		}
		if len(line) > 0 {
			number++
			whole = line[len(line)-1] == '\n'
		}
		signature := bytes.HasPrefix(line, []byte("— "))
		switch {
		case signed && !signature, len(line) == 0: // the note before is whole, or there is no more
			if err := end(); err != nil {
				return nil, 0, err
			}
		}
		switch {
		case len(line) == 0:
			return heads, 0, nil
		case len(text) == 0 && string(line) == "\n": // between two notes
			continue
		case len(text) == 0:
			began = number
		}
		text = append(text, line...)
		signed = signed || signature && blank
		blank = string(line) == "\n"
	}
}

// open verifies one note.
func open(text []byte, key ed25519.PublicKey) (node string, head authority.JournalHead, err error) {
	// The name of the key is the origin, which is part of what is signed.
	origin, _, _ := strings.Cut(string(text), "\n")
	vkey, err := note.NewEd25519VerifierKey(origin, key)
	if err != nil {
		return "", head, errors.New("not a note")
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return "", head, errors.New("the first line is not the name of a journal")
	}
	n, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return "", head, errors.New("not a note that this service has signed")
	}
	parts := strings.Split(n.Text, "\n")
	if len(parts) != 4 || parts[3] != "" {
		return "", head, errors.New("a checkpoint has three lines")
	}
	i := strings.LastIndex(origin, middle)
	if i < 0 || !format.IsNodeName(origin[i+len(middle):]) {
		return "", head, errors.New("the first line is not the name of a journal")
	}
	head.Seq, err = strconv.ParseUint(parts[1], 10, 63)
	if err != nil || strconv.FormatUint(head.Seq, 10) != parts[1] {
		return "", head, errors.New("the second line is not the number of a record")
	}
	hash, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(hash) != len(head.Hash) {
		return "", head, errors.New("the third line is not a hash")
	}
	copy(head.Hash[:], hash)
	return origin[i+len(middle):], head, nil
}
