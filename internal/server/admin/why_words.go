package admin

import (
	"fmt"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
)

// The sentences of why.go.

func summaryOf(r *admin.WhyAsked) string {
	said := fmt.Sprintf("%s %s at %s was refused with status %d", r.Method, r.Path, r.Time.Format(time.RFC3339), r.Status)
	if r.Error != "" {
		said += " and " + r.Error
	}
	switch {
	case r.Proved:
		said += ". It came from the client " + r.ClientID + ", which had proved itself"
	case r.ClientID != "":
		said += ". It named the client " + r.ClientID
	}
	return said + "."
}

func reasonOf(said, cause string) string {
	switch {
	case cause == "" || strings.Contains(said, cause):
		return said
	case said == "" || strings.Contains(cause, said):
		return cause
	default:
		return said + ": " + cause
	}
}

func unknownRequest(at, now time.Time, ours bool, others []string) string {
	when := at.Format(time.RFC3339)
	switch {
	case at.After(now.Add(time.Minute)):
		return "This is not the id of a request: it would have been made in the future."
	case ours:
		return "This node answered the request at " + when + ", and knows nothing more of it: it was not refused, or that was over an hour or a restart ago. The log has its line."
	case len(others) > 0:
		return "Node " + strings.Join(others, " or ") + " answered the request at " + when + ". Ask its admin API, or read its log and journal."
	default:
		return "The request would have been answered at " + when + " by a node that the database does not know. It is not a number of this service, or the node has never written a journal."
	}
}

// actionFor is what docs/reference/errors.md says, for an operator.
func actionFor(code string) string {
	switch code {
	case "":
		return ""
	case "invalid_client":
		return "Compare the client's id, secret and method with `signalbox client show ID`. `signalbox client rotate ID` gives it a new secret."
	case "invalid_grant":
		return "The person has to sign in again. A code works once and for a minute; a refresh token until its grant ends."
	case "unauthorized_client", "unsupported_grant_type":
		return "Register the client for this grant type, or let it ask for another."
	case "invalid_scope", "invalid_target":
		return "Let the client ask for less, or register the scope or the resource for it: `signalbox client show ID`."
	case "access_denied":
		return "The person said no, or the password was wrong, or plain HTTP came from an address that is not a proxy of ours: the reason says which."
	case "login_required", "consent_required", "interaction_required":
		return "The application has to ask without prompt=none."
	case "invalid_token":
		return "The caller needs a new access token."
	case "insufficient_scope":
		return "The caller needs a token with the scope that is missing."
	case "temporarily_unavailable", "server_error":
		return "It was a fault of ours, or too many at once: the reason says which. Look at /readyz and the log of this node."
	case "not_found", "method_not_allowed":
		return "Correct the address or the method of the request."
	default:
		return "Correct the request as the reason says."
	}
}

func unknownToken(raw string) string {
	switch {
	case strings.HasPrefix(raw, "sbx_"):
		return "This looks like a value of ours. It is damaged, or comes from another installation, or is long over."
	default:
		return "This is not an access token of this issuer, or the key that signed it is gone, which happens only after all its tokens have expired."
	}
}

func sentenceOf(t *admin.WhyToken) string {
	said := fmt.Sprintf("An access token of client %s for %s %s", t.ClientID, t.Subject.Kind, t.Subject.ID)
	if len(t.Audience) > 0 {
		said += ", good at " + strings.Join(t.Audience, " and ")
	}
	if t.Scope != "" {
		said += ", with the scope " + t.Scope
	}
	return strings.TrimSpace(said) + "."
}

func idTokenSentence(t *admin.WhyToken, now time.Time) string {
	good := "is good until"
	if !now.Before(t.ExpiresAt) {
		good = "expired at"
	}
	return fmt.Sprintf("An ID token, and no access token: it tells client %s that %s %s has signed in, and no API takes it. It %s %s.",
		t.ClientID, t.Subject.Kind, t.Subject.ID, good, t.ExpiresAt.Format(time.RFC3339))
}

func sessionSentence(s *admin.WhySession) string {
	whose := "somebody"
	if s.Subject != nil {
		whose = s.Subject.Kind + " " + s.Subject.ID
	}
	return "A browser session of " + whose + "."
}

func sessionAction(alive bool) string {
	if alive {
		return "Nothing: the person is signed in. Signing out ends it, and so does `signalbox panic --user`, with everything else of that person."
	}
	return "Let the person sign in again: what depended on the session has ended with it."
}

func grantSentence(g admin.Grant) string {
	said := fmt.Sprintf("A grant of client %s for %s %s", g.ClientID, g.Subject.Kind, g.Subject.ID)
	if g.Scope != "" {
		said += ", with the scope " + g.Scope
	}
	return said + "."
}

func whatMachinesGet(kind string) string {
	if kind == "grant" {
		return "A grant that has no row: what a machine gets for itself is in the journal alone."
	}
	return "A token of which this node's journal has only these records."
}

func endedWords(kind, key string) string {
	switch authority.RevocationKind(kind) {
	case authority.RevokeToken:
		return "the token was revoked"
	case authority.RevokeGrant:
		return "the grant " + key + " has ended"
	case authority.RevokeSession:
		return "the browser session " + key + " has ended"
	case authority.RevokeKey:
		return "the key " + key + " that signed it was removed in an emergency"
	case authority.EpochUser, authority.EpochClient, authority.EpochWorkload:
		return "everything of the " + kind + " " + key + " that was as old has been ended"
	case authority.EpochEverything:
		return "everything that was as old has been ended"
	default:
		return "the " + kind + " " + key + " that it depends on is gone"
	}
}

func endedAction(kind authority.RevocationKind) string {
	switch {
	case kind.IsEpoch():
		return "What is newer is good: get a new token, or let the person sign in again."
	case kind == authority.RevokeToken, kind == authority.RevokeKey:
		return "Get a new token."
	default:
		return "The grant gives nothing any more: let the person sign in again, or let the machine prove itself again."
	}
}
