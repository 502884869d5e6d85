package authority

// The classes of a sign-in: values of `acr` (OpenID Connect Core §2).
const ACRPassword = "urn:signalbox:acr:password"

// ACRs are all classes that a sign-in here can have.
var ACRs = []string{ACRPassword}

// ACR is the class of a sign-in by these methods (RFC 8176); empty where nobody
// has signed in.
func ACR(amr []string) string {
	if len(amr) == 0 {
		return ""
	}
	return ACRPassword
}
