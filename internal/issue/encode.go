package issue

import (
	"encoding/json"
	"strconv"
)

// object builds a JSON object member by member. Every token passes here, and
// encoding/json's reflection would cost a tenth of what the signature does.
type object struct{ buf []byte }

func newObject() *object { return &object{append(make([]byte, 0, 640), '{')} }

func (o *object) name(name string) {
	if len(o.buf) > 1 {
		o.buf = append(o.buf, ',')
	}
	o.buf = append(append(append(o.buf, '"'), name...), '"', ':')
}

// text adds a member; it omits an empty one.
func (o *object) text(name, value string) {
	if value == "" {
		return
	}
	o.name(name)
	o.value(value)
}

func (o *object) value(s string) {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e || s[i] == '"' || s[i] == '\\' {
			quoted, _ := json.Marshal(s) // a string always has a JSON form
			o.buf = append(o.buf, quoted...)
			return
		}
	}
	o.buf = append(append(append(o.buf, '"'), s...), '"')
}

func (o *object) number(name string, value int64) {
	o.name(name)
	o.buf = strconv.AppendInt(o.buf, value, 10)
}

// json adds a member of any shape: for what few tokens have.
func (o *object) json(name string, value any) {
	encoded, _ := json.Marshal(value) // structs of strings always have a JSON form
	o.name(name)
	o.buf = append(o.buf, encoded...)
}

// list adds an array; it omits an empty one.
func (o *object) list(name string, values []string) {
	if len(values) == 0 {
		return
	}
	o.name(name)
	for i, v := range values {
		o.buf = append(o.buf, "[,"[min(i, 1)])
		o.value(v)
	}
	o.buf = append(o.buf, ']')
}

// oneOrList adds one string where there is one value, and an array where
// there are more (RFC 7519 §4.1.3).
func (o *object) oneOrList(name string, values []string) {
	if len(values) == 1 {
		o.text(name, values[0])
		return
	}
	o.list(name, values)
}

func (o *object) end() []byte { return append(o.buf, '}') }

// JSON is the body of the answer. When a refresh token ends is said as in
// draft-ietf-oauth-refresh-token-expiration.
func (r Response) JSON() []byte {
	o := newObject()
	o.text("access_token", r.AccessToken)
	o.text("issued_token_type", string(r.IssuedType))
	o.text("token_type", r.TokenType)
	o.number("expires_in", r.ExpiresIn)
	if !r.RefreshToken.IsZero() {
		o.text("refresh_token", r.RefreshToken.Reveal())
		o.number("refresh_token_expires_in", r.RefreshEnds)
		o.number("authorization_expires_in", r.GrantEnds)
	}
	o.text("scope", r.Scope)
	o.text("id_token", r.IDToken)
	return o.end()
}
