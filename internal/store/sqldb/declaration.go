package sqldb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// errOvertaken is a declaration that met another one: it looks again.
var errOvertaken = errors.New("another declaration came first")

// Declare implements authority.DeclarationStore. The revision is the primary
// key: whoever inserts it has compared and swapped, and whoever finds it taken
// starts over.
func (db *DB) Declare(ctx context.Context, d authority.Declaration, ran int64) (declared authority.Declaration, ended []authority.Revocation, err error) {
	digests, err := json.Marshal(d.Digests)
	if err != nil {
		return d, nil, err
	}
	for {
		err = db.transact(ctx, func(t tx) (err error) {
			declared, ended, err = declare(t, d, string(digests), ran)
			return err
		})
		if !errors.Is(err, errOvertaken) {
			return declared, ended, err
		}
	}
}

func declare(t tx, d authority.Declaration, digests string, ran int64) (authority.Declaration, []authority.Revocation, error) {
	var current authority.Declaration
	if err := t.query(newestDeclaration, nil, scanDeclaration(&current)); err != nil {
		return d, nil, err
	}
	if current.Revision > 0 && d.Content == current.Content {
		_, err := t.exec(`UPDATE declarations SET digests = $2 WHERE revision = $1 AND digests <> $2`, current.Revision, digests)
		current.Digests = d.Digests
		return current, nil, err
	}
	known := false
	err := t.query(`SELECT 1 FROM declarations WHERE content = $1 LIMIT 1`, []any{d.Content[:]}, func(row) error { known = true; return nil })
	if err != nil {
		return d, nil, err
	}
	if err := d.MayReplace(current, ran, known); err != nil {
		return d, nil, err
	}
	d.Revision = current.Revision + 1
	rows, err := t.exec(`INSERT INTO declarations (revision, content, digests, node, declared_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (revision) DO NOTHING`, d.Revision, d.Content[:], digests, d.Node, micros(d.At))
	if err == nil && rows == 0 {
		err = errOvertaken
	}
	if err != nil {
		return d, nil, err
	}
	if _, err := t.exec(`UPDATE declarations SET digests = '' WHERE revision = $1`, current.Revision); err != nil {
		return d, nil, err
	}
	var args [][]any
	for _, r := range d.Ends(current) {
		args = append(args, revocationArgs(r))
	}
	var ended []authority.Revocation
	err = t.forEach(moveEpoch, args, func(r row) error {
		written, err := scanRevocation(r)
		ended = append(ended, written)
		return err
	})
	return d, ended, err
}

const newestDeclaration = `SELECT revision, content, digests, node, declared_at FROM declarations ORDER BY revision DESC LIMIT 1`

// Declaration implements authority.DeclarationStore.
func (db *DB) Declaration(ctx context.Context) (d authority.Declaration, err error) {
	err = db.one(ctx, scanDeclaration(&d), newestDeclaration)
	return d, err
}

func scanDeclaration(d *authority.Declaration) func(row) error {
	return func(r row) error {
		var content []byte
		var digests string
		var at int64
		if err := r.Scan(&d.Revision, &content, &digests, &d.Node, &at); err != nil {
			return err
		}
		var err error
		d.At = timeOf(at)
		if d.Content, err = hashOf(content); err != nil {
			return err
		}
		d.Digests = nil
		if err := json.Unmarshal([]byte(digests), &d.Digests); err != nil {
			return fmt.Errorf("declaration %d: %w", d.Revision, err)
		}
		return nil
	}
}
