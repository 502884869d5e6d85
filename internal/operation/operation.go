// Package operation is the table of what the admin API can do: the server routes by it, and the client
// in package admin asks by it. A filter of a list is a struct with tags, which both read.
package operation

// Prefix is what every path of the API begins with.
const Prefix = "/admin/v1"

// Operation is one row. Its name is the operationId in OpenAPI; the client's method is called the same.
type Operation struct{ Name, Method, Path string }

var (
	Describe = Operation{"describe", "GET", "/openapi.json"}

	ListClients        = Operation{"listClients", "GET", "/clients"}
	CreateClient       = Operation{"createClient", "POST", "/clients"}
	ShowClient         = Operation{"showClient", "GET", "/clients/{id}"}
	UpdateClient       = Operation{"updateClient", "PATCH", "/clients/{id}"}
	DeleteClient       = Operation{"deleteClient", "DELETE", "/clients/{id}"}
	DisableClient      = Operation{"disableClient", "POST", "/clients/{id}/disable"}
	EnableClient       = Operation{"enableClient", "POST", "/clients/{id}/enable"}
	RotateClientSecret = Operation{"rotateClientSecret", "POST", "/clients/{id}/secret"}

	ListUsers   = Operation{"listUsers", "GET", "/users"}
	CreateUser  = Operation{"createUser", "POST", "/users"}
	ShowUser    = Operation{"showUser", "GET", "/users/{id}"}
	DeleteUser  = Operation{"deleteUser", "DELETE", "/users/{id}"}
	SetPassword = Operation{"setPassword", "POST", "/users/{id}/password"}
	SetGroups   = Operation{"setGroups", "POST", "/users/{id}/groups"}
	DisableUser = Operation{"disableUser", "POST", "/users/{id}/disable"}
	EnableUser  = Operation{"enableUser", "POST", "/users/{id}/enable"}

	ListResources  = Operation{"listResources", "GET", "/resources"}
	CreateResource = Operation{"createResource", "POST", "/resources"}
	ShowResource   = Operation{"showResource", "GET", "/resources/{id}"}
	UpdateResource = Operation{"updateResource", "PATCH", "/resources/{id}"}
	DeleteResource = Operation{"deleteResource", "DELETE", "/resources/{id}"}

	ListClusters  = Operation{"listClusters", "GET", "/clusters"}
	CreateCluster = Operation{"createCluster", "POST", "/clusters"}
	ShowCluster   = Operation{"showCluster", "GET", "/clusters/{id}"}
	UpdateCluster = Operation{"updateCluster", "PATCH", "/clusters/{id}"}
	DeleteCluster = Operation{"deleteCluster", "DELETE", "/clusters/{id}"}

	ListTrustedIssuers = Operation{"listTrustedIssuers", "GET", "/trusted-issuers"}
	ShowTrustedIssuer  = Operation{"showTrustedIssuer", "GET", "/trusted-issuers/{id}"}

	ListPolicies = Operation{"listPolicies", "GET", "/policies"}

	ListKeys  = Operation{"listKeys", "GET", "/keys"}
	RotateKey = Operation{"rotateKey", "POST", "/keys/rotate"}
	RemoveKey = Operation{"removeKey", "DELETE", "/keys/{id}"}

	ListGrants = Operation{"listGrants", "GET", "/grants"}
	ShowGrant  = Operation{"showGrant", "GET", "/grants/{id}"}
	EndGrant   = Operation{"endGrant", "POST", "/grants/{id}/end"}

	Revoke = Operation{"revoke", "POST", "/revocations"}

	SearchJournal = Operation{"searchJournal", "GET", "/journal"}
	TailJournal   = Operation{"tailJournal", "GET", "/journal/tail"}
	ShowJournal   = Operation{"showJournal", "GET", "/journal/status"}
	ListNodes     = Operation{"listNodes", "GET", "/journal/nodes"}
	RetireNode    = Operation{"retireNode", "POST", "/journal/nodes/{id}/retire"}

	Why      = Operation{"why", "GET", "/why/{id}"}
	WhyToken = Operation{"whyToken", "POST", "/why"}
)
