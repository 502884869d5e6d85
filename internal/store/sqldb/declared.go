package sqldb

import "context"

// Declared is what SaveDeclared kept: a digest by id.
func (db *DB) Declared(ctx context.Context) (map[string]string, error) {
	found := map[string]string{}
	return found, storage(db.engine.query(ctx, allDeclared, nil, scanInto(found)))
}

const allDeclared = `SELECT id, digest FROM declared`

func scanInto(digests map[string]string) func(row) error {
	return func(r row) error {
		var id, digest string
		err := r.Scan(&id, &digest)
		digests[id] = digest
		return err
	}
}

// SaveDeclared keeps next in place of all that was kept before, in one
// transaction that writes only what differs.
func (db *DB) SaveDeclared(ctx context.Context, next map[string]string) error {
	return db.transact(ctx, func(t tx) error {
		before := map[string]string{}
		if err := t.query(allDeclared, nil, scanInto(before)); err != nil {
			return err
		}
		for id := range before {
			if _, stays := next[id]; !stays {
				if _, err := t.exec(`DELETE FROM declared WHERE id = $1`, id); err != nil {
					return err
				}
			}
		}
		for id, digest := range next {
			if was, there := before[id]; there && was == digest {
				continue
			}
			_, err := t.exec(`INSERT INTO declared (id, digest) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET digest = excluded.digest`, id, digest)
			if err != nil {
				return err
			}
		}
		return nil
	})
}
