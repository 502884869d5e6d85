package server

import (
	"context"
	"net/http"

	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/server/admin"
)

// Admin is the admin listener. All fields are required.
type Admin struct {
	API   *admin.API
	Ready func(ctx context.Context) error
}

// Handler builds the routes.
func (a Admin) Handler(middleware *Middleware) http.Handler {
	alive := func(context.Context) error { return nil }
	routes := []route{
		{method: "GET", path: "/livez", serve: ready(alive)},
		{method: "GET", path: readyPath, serve: ready(a.Ready)},
		{method: "GET", path: "/metrics", serve: middleware.Metrics.handler()},
	}
	a.API.Mount(func(method, path string, serve http.HandlerFunc) {
		routes = append(routes, route{method: method, path: path, serve: serve, exact: true})
	})
	return middleware.mount(routes, httpx.NotFound)
}
