package server

import (
	"context"
	"net/http"

	"github.com/signalbox-sts/signalbox/internal/server/admin"
)

// Admin is the admin listener. All fields are required.
type Admin struct {
	API   *admin.API
	Ready func(ctx context.Context) error
}

// Handler builds the routes. The admin API answers for its own paths.
func (a Admin) Handler(middleware *Middleware) http.Handler {
	alive := func(context.Context) error { return nil }
	api := a.API.Handler()
	routes := []route{
		{"GET", "/livez", ready(alive), false},
		{"GET", "/readyz", ready(a.Ready), false},
		{"GET", "/metrics", middleware.Metrics.handler(), false},
		{"", "/admin/v1/", func(w http.ResponseWriter, r *http.Request) {
			api.ServeHTTP(w, r.WithContext(r.Context())) // a copy: its mux writes its own pattern into it
		}, false},
	}
	return middleware.mount(routes)
}
