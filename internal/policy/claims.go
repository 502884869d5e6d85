package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/signalbox-sts/signalbox/internal/jose"
)

// maxClaims bounds the claims of a proof. A token that can be sent is far smaller.
const maxClaims = 64 << 10

var errNumber = errors.New("is a number out of range")

// normal is the text that a claim is compared as in `from.claims`: a string is
// itself, true and false are those words, a whole number that fits 64 bits is its
// decimal digits. Everything else (other numbers, null, arrays, objects) has no
// such text, and never matches: an array that holds a value is not that value.
func normal(claims jose.Claims, name string) (string, bool) {
	raw, ok := claims.Raw(name)
	if !ok {
		return "", false
	}
	switch raw[0] {
	case '"':
		s, ok, err := claims.String(name)
		return s, ok && err == nil
	case 't', 'f':
		return string(raw), true
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return string(raw), err == nil && strconv.FormatInt(n, 10) == string(raw)
}

// claimMap shows an object of JSON to CEL. A member is converted when an
// expression names it first.
type claimMap struct {
	claims    jose.Claims
	converted map[string]ref.Val
}

var _ traits.Mapper = (*claimMap)(nil)

// Find gives a claim as CEL's value. One that cannot be represented is an error,
// not absent.
func (m *claimMap) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), true
	}
	raw, ok := m.claims.Raw(string(name))
	if !ok {
		return nil, false
	}
	if v, done := m.converted[string(name)]; done {
		return v, true
	}
	v, err := m.convert(string(name), raw)
	if err != nil {
		v = types.NewErr("claim %s: %v", name, err)
	}
	if m.converted == nil {
		m.converted = map[string]ref.Val{}
	}
	m.converted[string(name)] = v
	return v, true
}

func (m *claimMap) convert(name string, raw json.RawMessage) (ref.Val, error) {
	switch raw[0] {
	case '"':
		s, _, err := m.claims.String(name)
		return types.String(s), err
	case '{':
		inner, _, err := m.claims.Object(name)
		return &claimMap{claims: inner}, err
	case '[':
		var v any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		return value(v)
	case 't', 'f':
		return types.Bool(raw[0] == 't'), nil
	case 'n':
		return types.NullValue, nil
	default:
		return number(string(raw))
	}
}

// number reads a JSON number. One that 64 bits cannot hold exactly is an error:
// rounded, two ids could become one.
func number(s string) (ref.Val, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return types.Int(n), nil
	} else if errors.Is(err, strconv.ErrRange) {
		return nil, errNumber
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, errNumber
	}
	return types.Double(f), nil
}

// value converts what is in an array.
func value(v any) (ref.Val, error) {
	switch v := v.(type) {
	case json.Number:
		return number(v.String())
	case []any:
		list := make([]ref.Val, len(v))
		for i := range v {
			var err error
			if list[i], err = value(v[i]); err != nil {
				return nil, err
			}
		}
		return types.NewRefValList(types.DefaultTypeAdapter, list), nil
	case map[string]any:
		members := make(map[ref.Val]ref.Val, len(v))
		for name := range v {
			var err error
			if members[types.String(name)], err = value(v[name]); err != nil {
				return nil, err
			}
		}
		return types.NewRefValMap(types.DefaultTypeAdapter, members), nil
	default:
		return types.DefaultTypeAdapter.NativeToValue(v), nil
	}
}

// Get is Find for an index: an absent claim is an error.
func (m *claimMap) Get(key ref.Val) ref.Val {
	v, found := m.Find(key)
	if !found {
		return types.NewErr("no such key: %v", key)
	}
	return v
}

// Contains is the `in` of CEL.
func (m *claimMap) Contains(key ref.Val) ref.Val {
	name, ok := key.(types.String)
	return types.Bool(ok && m.claims.Has(string(name)))
}

// Size is how many claims there are.
func (m *claimMap) Size() ref.Val { return types.Int(len(m.claims.Names())) }

// Iterator walks the names.
func (m *claimMap) Iterator() traits.Iterator {
	return types.DefaultTypeAdapter.NativeToValue(m.claims.Names()).(traits.Lister).Iterator()
}

// Equal refuses: nobody compares a whole object and means it.
func (m *claimMap) Equal(ref.Val) ref.Val {
	return types.NewErr("an object cannot be compared as a whole")
}

// ConvertToNative has no use here.
func (m *claimMap) ConvertToNative(reflect.Type) (any, error) {
	return nil, errors.New("claims cannot be converted")
}

// ConvertToType has no use here.
func (m *claimMap) ConvertToType(ref.Type) ref.Val { return types.NewErr("claims cannot be converted") }

// Type is a map.
func (m *claimMap) Type() ref.Type { return types.MapType }

// Value is the claims as they were written.
func (m *claimMap) Value() any { return m.claims.Text() }
