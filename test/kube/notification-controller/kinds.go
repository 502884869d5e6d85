// Package kinds names the API of Flux's notification-controller, whose kinds its
// tests install. The controller itself cannot be had: see the test.
package kinds

import _ "github.com/fluxcd/notification-controller/api/v1" // whose CRD controller-gen writes
