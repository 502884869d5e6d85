package server

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/httpx"
)

func TestReadiness(t *testing.T) {
	middleware, log := newMiddleware()
	var failure error
	h := middleware.mount([]route{{method: "GET", path: "/readyz", serve: ready(func(ctx context.Context) error {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("a check may hang forever")
		}
		return failure
	})}}, httpx.NotFound)
	if r := ask(h, "GET", "/readyz", ""); r.StatusCode != 200 {
		t.Fatalf("%d", r.StatusCode)
	}
	failure = errors.New("postgres://signalbox@db.internal: no such host")
	r := ask(h, "GET", "/readyz", "")
	if said := text(t, r); r.StatusCode != 503 || r.Header.Get("Retry-After") == "" || strings.Contains(said, "db.internal") {
		t.Fatalf("%d %s", r.StatusCode, said)
	}
	if !strings.Contains(log.String(), "db.internal") {
		t.Error("the log does not say why")
	}
}
