package source

import "testing"

func TestMask(t *testing.T) {
	for _, row := range []struct{ line, want string }{
		{`url: "postgres://u:p@ss/w@host/db"`, `url: "postgres://u:******@host/db"`},
		{`url: postgres://h/d?password=abc&x=1`, `url: postgres://h/d?password=***&x=1`},
		{`secrets: {master_key: abc}`, `secrets: {master_key: ***}`},
		{`secrets: {master_key: abc, x: 1}`, `secrets: {master_key: ***, x: 1}`},
		{`password_hash: $argon2id$m=1,t=2$aa`, `password_hash: ********************`},
		{`keys: [{kty: EC, d: abc, "k":"xyz"}]`, `keys: [{kty: EC, d: ***, "k":*****}]`},
		{`client_secret: [abc]`, `client_secret: ****]`},
		{`client_secret_file: /run/x`, `client_secret_file: /run/x`},
		{`client_secret_file: hunter2`, `client_secret_file: *******`},
		{`password_file: "hunter2", x: 1`, `password_file: *********, x: 1`},
		{`password_file: ada.password`, `password_file: ada.password`},
		{`token_endpoint_auth_method: none`, `token_endpoint_auth_method: none`},
		{`tokens: {access_ttl: 5m}`, `tokens: {access_ttl: 5m}`},
		{"name: \x1b[31m\tx", `name: ?[31m x`},
	} {
		got := mask(row.line)
		if got != row.want {
			t.Errorf("%s\n got %s\nwant %s", row.line, got, row.want)
		}
		if len([]rune(got)) != len([]rune(row.line)) {
			t.Errorf("%s: the caret would move", row.line)
		}
	}
}
