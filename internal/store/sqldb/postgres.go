package sqldb

import (
	"context"
	"errors"
)

func openPostgres(ctx context.Context, url string) (engine, error) {
	return nil, errors.New("PostgreSQL is not wired yet")
}
