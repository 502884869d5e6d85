package admin

import "github.com/signalbox-sts/signalbox/internal/server/admin/api"

// Routes are the routes of an API, for tests outside of the package.
func Routes() []api.Route { return (&API{}).routes() }
