package authorize

import (
	"net/url"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/ui"
)

// nameOf is what people call a client.
func nameOf(c authority.Client) string {
	if name := strings.TrimSpace(c.Name); name != "" {
		return name
	}
	return c.ID
}

// whereTo says where a redirect URI leads.
func whereTo(redirectURI string) string {
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil:
		return redirectURI
	case u.Scheme == "https":
		return u.Host
	case u.Scheme == "http":
		return "a program on this computer (" + u.Host + ")"
	default:
		return "an app on this device (" + u.Scheme + ")"
	}
}

var standard = map[string]string{
	oauth.ScopeOpenID:        "Know that it is you, by an identifier that stays the same",
	oauth.ScopeProfile:       "See your name, username, and what else your profile holds",
	oauth.ScopeEmail:         "See your email address",
	oauth.ScopeAddress:       "See your postal address",
	oauth.ScopePhone:         "See your phone number",
	oauth.ScopeOfflineAccess: "Keep this access after you sign out, until it expires or you ask the operator of this service to end it",
}

// permissions puts a target, and the claims that were asked for beside it, into
// words, grouped by resource.
func permissions(t authority.Target, claims authority.RequestedClaims) (about []ui.Permission, resources []ui.ResourcePermissions) {
	for _, scope := range t.Scopes.List() {
		if words, ok := standard[scope]; ok {
			about = append(about, ui.Permission{Words: words})
		}
	}
	for _, name := range claims.Beyond(t.Scopes) {
		about = append(about, ui.Permission{Words: "See your " + strings.ReplaceAll(name, "_", " ")})
	}
	for _, r := range t.Resources {
		group := ui.ResourcePermissions{Resource: strings.TrimPrefix(r.ID, "https://")}
		for _, scope := range t.Scopes.Intersect(r.Scopes).List() {
			if standard[scope] == "" {
				group.Permissions = append(group.Permissions, scopeInWords(scope))
			}
		}
		if len(group.Permissions) == 0 {
			group.Permissions = []ui.Permission{{Words: "Act for you, as far as this service lets any application"}}
		}
		resources = append(resources, group)
	}
	return about, resources
}

var verbs = map[string]string{
	"read": "See", "view": "See", "list": "List", "write": "See and change", "update": "Change", "create": "Create",
	"delete": "Delete", "admin": "Do everything with", "manage": "Manage", "send": "Send",
}

// scopeInWords reads a scope of the common form thing:verb aloud. Every other
// scope speaks for itself.
func scopeInWords(scope string) ui.Permission {
	for _, separator := range []string{":", "."} {
		thing, verb, ok := strings.Cut(scope, separator)
		if ok && thing != "" && verbs[verb] != "" && !strings.ContainsAny(thing, ":./") {
			return ui.Permission{Words: verbs[verb] + " " + strings.NewReplacer("_", " ", "-", " ").Replace(thing), Scope: scope}
		}
	}
	return ui.Permission{Words: scope}
}
