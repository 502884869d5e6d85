package cli

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/server/admin"
)

// exampleKey is the thumbprint of RFC 7638 §3.1, as key list shows them.
const exampleKey = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

func (a *adminCLI) keyCommand() *cobra.Command {
	return a.group("key", "Administer signing keys",
		`  signalbox key list
  signalbox key rotate ES256
  signalbox key remove `+exampleKey+`      # it has leaked`,
		listing[admin.Key]{
			path: "/keys", columns: []string{"KEY", "ALGORITHM", "STATE", "CREATED", "SIGNS SINCE", "RETIRED"},
			row: func(k admin.Key) []string {
				return []string{k.KeyID, k.Algorithm, k.State, when(k.CreatedAt), when(k.PromotedAt), when(k.RetiredAt)}
			},
		}.command(a, "List signing keys", "  signalbox key list -o json"),
		a.keyRotate(),
		a.changeCommand(change{
			use: "remove KID", example: exampleKey, short: "Emergency: remove a key now; every token that it signed is dead", path: "/keys", member: "kid", method: http.MethodDelete,
			question: "Remove key %s? Every token that it signed is dead at once.", said: "key %s is removed",
		}),
	)
}

func (a *adminCLI) keyRotate() *cobra.Command {
	return &cobra.Command{
		Use: "rotate ALGORITHM", Short: "Sign with the next key from now on; no token fails", Args: oneArg("algorithm (ES256, RS256, EdDSA)"),
		Long: `Sign with the next key from now on. Tokens of the old key stay good: it is
published until the last of them has expired. For a key that has leaked use
signalbox key remove.`,
		Example:           "  signalbox key rotate ES256",
		ValidArgsFunction: cobra.FixedCompletions([]string{"ES256", "RS256", "EdDSA"}, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			var key admin.Key
			if err := a.call(cmd.Context(), http.MethodPost, "/keys/rotate", nil, admin.RotateKey{Algorithm: args[0]}, &key); err != nil {
				return err
			}
			return a.show(key)
		},
	}
}
