package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// Start is what a first configuration begins with.
type Start struct {
	Issuer         string
	DataDir        string // of the database and the journal; empty means the default
	OperatorSecret string // the file with the secret of a client that administers; empty means that there is none
}

// Operator is the client that may administer in a first configuration.
const Operator = "ops"

// Sample is the commented configuration that `signalbox init` writes. It needs
// three files beside it: tls.crt, tls.key and master.key (two fewer for a
// loopback http issuer, which has no TLS).
func Sample(start Start) []byte {
	var b strings.Builder
	b.WriteString("# yaml-language-server: $schema=" + SchemaID + "\n" +
		"# Signalbox configuration. Check it with: signalbox config validate FILE\n" +
		"# Explain a key with: signalbox config explain KEY\n" +
		"# Paths start at this file's folder. A line with a # before its key shows what is possible.\n")
	plain := strings.HasPrefix(start.Issuer, "http://")
	for _, f := range table {
		b.WriteString("\n")
		switch {
		case f.key == "issuer":
			f.example = strconv.Quote(start.Issuer)
		case f.key == "listen":
			f.fields = slices.Clone(f.fields)
			f.fields[0].def = strconv.Quote(publicAddress(start.Issuer))
		case f.key == "storage" && start.DataDir != "":
			f.fields = slices.Clone(f.fields)
			f.fields[0].def = strconv.Quote("sqlite:" + filepath.ToSlash(filepath.Join(start.DataDir, "signalbox.db")))
		}
		sampleField(&b, f, "", plain)
	}
	text := b.String()
	if start.OperatorSecret != "" { // the example of a client follows as a second one
		text = strings.Replace(text, "# clients:\n", fmt.Sprintf(operator, Operator, strconv.Quote(start.OperatorSecret), authority.AdminScopes, strconv.Quote(authority.AdminResource)), 1)
	}
	return []byte(text)
}

// publicAddress is where an issuer is reached: its port, on this machine alone
// for plain HTTP. A name without a port is taken to be behind something that
// forwards to the default port.
func publicAddress(issuer string) string {
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Port() == "":
		return ":8443"
	case u.Scheme == "http":
		return u.Host
	default:
		return ":" + u.Port()
	}
}

const operator = `clients:
  - client_id: %s                 # administers over the admin API
    client_name: Operators
    grant_types: [client_credentials]
    client_secret_file: %s
    scope: %s
    resources: [%s]
  - client_id: signalbox-cli       # people at a terminal: signalbox login
    client_name: Signalbox at the terminal
    redirect_uris: ["http://127.0.0.1/callback"]   # any port
    grant_types: [authorization_code, refresh_token, "urn:ietf:params:oauth:grant-type:token-exchange"]
    token_endpoint_auth_method: none
    scope: openid profile
`

func sampleField(b *strings.Builder, f field, indent string, plain bool) {
	if f.envOnly {
		return
	}
	note := f.doc
	if f.danger != "" {
		note += " DANGER: " + f.danger
	}
	for _, l := range wrap(note, 90-len(indent)) {
		fmt.Fprintf(b, "%s# %s\n", indent, l)
	}
	live := f.sample
	if plain && (f.key == "cert_file" || f.key == "key_file") {
		live = false
	}
	if plain && f.key == "off" {
		live = true
	}
	switch {
	case f.unsupported:
		fmt.Fprintf(b, "%s%s: []\n", indent, f.key)
	case f.isList():
		sampleMember(b, f)
	case f.isSection():
		// A section whose keys are all comments is itself one: `acme:` alone
		// would be there, with nothing in it.
		if !live {
			var inner strings.Builder
			for _, k := range f.fields {
				fmt.Fprintf(&inner, "%s#   %s: %s\n", indent, k.key, k.value())
			}
			fmt.Fprintf(b, "%s# %s:\n%s", indent, f.key, inner.String())
			return
		}
		fmt.Fprintf(b, "%s%s:\n", indent, f.key)
		for _, k := range f.fields {
			sampleField(b, k, indent+"  ", plain)
		}
	case live:
		// A live line shows what is in force: the default, where there is one.
		v := cmpOr(f.def, f.example)
		if f.key == "off" {
			v = "true"
		}
		fmt.Fprintf(b, "%s%s: %s\n", indent, f.key, v)
	default:
		fmt.Fprintf(b, "%s# %s: %s\n", indent, f.key, f.value())
	}
}

// sampleMember shows one member of a list, as a comment.
func sampleMember(b *strings.Builder, f field) {
	fmt.Fprintf(b, "# %s:\n", f.key)
	dash := "-"
	for _, k := range f.fields {
		if k.sample {
			fmt.Fprintf(b, "#   %s %s: %s\n", dash, k.key, k.value())
			dash = " "
		}
	}
}
