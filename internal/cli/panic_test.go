package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/admin"
)

func TestBlastRadiusInWords(t *testing.T) {
	for _, row := range []struct {
		revoked admin.Revoked
		typed   string
		want    string
	}{
		{admin.Revoked{Kind: "user", Key: "u_1", ActiveGrants: 1, Exact: true}, "ada", "Blast radius of user ada (u_1):\n  1 standing grant ends, and every token that came from it\n"},
		{admin.Revoked{Kind: "user", Key: "u_1", ActiveGrants: 2}, "u_1", "Blast radius of user u_1:\n  at most 2 standing grants end,"},
		{admin.Revoked{Kind: "user", Key: "u_1", ActiveGrants: 2, AtLeast: true}, "u_1", "Blast radius of user u_1:\n  at least 2 standing grants end,"},
		{admin.Revoked{Kind: "client", Key: "x", ActiveGrants: 2, ByClient: make([]admin.ClientCount, 1)}, "x", "every token that came from them\n  of the first of them:\n"},
		{admin.Revoked{Kind: "grant", Key: "g", Rowless: true, Exact: true}, "", "Blast radius of grant g:\n  what machines got for themselves has no standing grant to count: its tokens end, and all that came from them\n"},
		{admin.Revoked{Kind: "grant", Key: "g", AlreadyEnded: true, Exact: true}, "", "Blast radius of grant g:\n  it has ended already\n"},
		{admin.Revoked{Kind: "everything", Exact: true}, "", "Blast radius of everything:\n  0 standing grants end,"},
		{admin.Revoked{Kind: "client", Key: "x", ByClient: make([]admin.ClientCount, 11)}, "x", "… and 1 more client\n"},
	} {
		var out bytes.Buffer
		blastRadius(&out, row.revoked, row.typed)
		if !strings.Contains(out.String(), row.want) {
			t.Errorf("no %q in %q", row.want, out.String())
		}
	}
}
