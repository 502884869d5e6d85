package jose

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func parse(t *testing.T, text string) Claims {
	t.Helper()
	claims, err := ParseClaims([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestClaimTypes(t *testing.T) {
	c := parse(t, `{"s":"a\u00e9\n","n":1,"null":null,"t":true,"one":"x","many":["x","\u0079"],"none":[],"mixed":["x",1],"deep":["x",["y"]],"nullin":[null],"o":{"a":{"b":1}}}`)

	if s, ok, err := c.String("s"); s != "aé\n" || !ok || err != nil {
		t.Error(s, ok, err)
	}
	if _, ok, err := c.String("absent"); ok || err != nil {
		t.Error("an absent claim is not an error", err)
	}
	for _, name := range []string{"n", "null", "t", "many", "o"} {
		if _, ok, err := c.String(name); ok || !errors.Is(err, ErrClaim) {
			t.Errorf("%s as a string: %v", name, err)
		}
	}
	for name, want := range map[string][]string{"one": {"x"}, "many": {"x", "y"}, "none": {}} {
		if got, ok, err := c.Strings(name); !slices.Equal(got, want) || !ok || err != nil {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	for _, name := range []string{"n", "null", "t", "o", "mixed", "deep", "nullin"} {
		if _, ok, err := c.Strings(name); ok || !errors.Is(err, ErrClaim) {
			t.Errorf("%s as strings: %v", name, err)
		}
	}
	if b, ok, err := c.Bool("t"); !b || !ok || err != nil {
		t.Error(err)
	}
	if _, _, err := c.Bool("s"); !errors.Is(err, ErrClaim) {
		t.Error(err)
	}
	o, ok, err := c.Object("o")
	if !ok || err != nil || !o.Has("a") {
		t.Error(err)
	}
	if _, _, err := c.Object("many"); !errors.Is(err, ErrClaim) {
		t.Error(err)
	}
	if raw, ok := c.Raw("mixed"); !ok || string(raw) != `["x",1]` {
		t.Error(string(raw))
	}
	if c.Has("S") {
		t.Error("names are compared exactly")
	}
}

func TestNumericDate(t *testing.T) {
	for _, row := range []struct {
		name, value string
		want        time.Time // zero means refused
	}{
		{"whole seconds", `1300819380`, time.Unix(1300819380, 0)},
		{"a fraction", `1300819380.5`, time.Unix(1300819380, 5e8)},
		{"an exponent", `1.3e9`, time.Unix(1300000000, 0)},
		{"zero", `0`, time.Unix(0, 0)},
		{"the last second of 9999", `253402300799`, time.Unix(253402300799, 0)},
		{"a second later", `253402300800`, time.Time{}},
		{"milliseconds", `1300819380000`, time.Time{}},
		{"a string", `"1300819380"`, time.Time{}},
		{"negative", `-1`, time.Time{}},
		{"negative zero", `-0`, time.Time{}},
		{"1e400", `1e400`, time.Time{}},
		{"1e300", `1e300`, time.Time{}},
		{"more than 64 bits", `99999999999999999999`, time.Time{}},
		{"null", `null`, time.Time{}},
		{"true", `true`, time.Time{}},
		{"an array", `[1300819380]`, time.Time{}},
		{"an object", `{}`, time.Time{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, ok, err := parse(t, `{"exp":`+row.value+`}`).Time("exp")
			if row.want.IsZero() {
				if ok || !errors.Is(err, ErrClaim) {
					t.Fatalf("accepted as %v, %v", got, err)
				}
			} else if !ok || err != nil || !got.Equal(row.want) {
				t.Fatal(got, err)
			}
		})
	}
}

func TestCheckTimes(t *testing.T) {
	now := time.Unix(1000000, 0)
	minute := TimeRules{Leeway: time.Minute}
	for _, row := range []struct {
		name, claims string
		rules        TimeRules
		want         error
	}{
		{"good", `{"exp":1000300,"nbf":1000000,"iat":1000000}`, TimeRules{}, nil},
		{"exp alone", `{"exp":1000001}`, TimeRules{}, nil},
		{"exp missing", `{"iat":1000000}`, TimeRules{}, ErrClaim},
		{"exp a string", `{"exp":"1000300"}`, TimeRules{}, ErrClaim},
		{"exp now", `{"exp":1000000}`, TimeRules{}, ErrExpired},
		{"exp past within the leeway", `{"exp":999941}`, minute, nil},
		{"exp past at the end of the leeway", `{"exp":999940}`, minute, ErrExpired},
		{"a leeway of a day counts as a minute", `{"exp":999940}`, TimeRules{Leeway: 24 * time.Hour}, ErrExpired},
		{"a negative leeway counts as none", `{"exp":1000001}`, TimeRules{Leeway: -time.Hour}, nil},
		{"nbf in the future", `{"exp":1000300,"nbf":1000001}`, TimeRules{}, ErrNotYet},
		{"nbf in the future within the leeway", `{"exp":1000300,"nbf":1000060}`, minute, nil},
		{"nbf beyond the leeway", `{"exp":1000300,"nbf":1000061}`, minute, ErrNotYet},
		{"nbf a string", `{"exp":1000300,"nbf":"1"}`, TimeRules{}, ErrClaim},
		{"iat in the future", `{"exp":1000300,"iat":1000001}`, TimeRules{}, ErrNotYet},
		{"iat beyond the leeway", `{"exp":1000300,"iat":1000061}`, minute, ErrNotYet},
		{"iat null", `{"exp":1000300,"iat":null}`, TimeRules{}, ErrClaim},
		{"MaxAge without iat", `{"exp":1000300}`, TimeRules{MaxAge: time.Minute}, ErrClaim},
		{"MaxAge kept", `{"exp":1000300,"iat":999940}`, TimeRules{MaxAge: time.Minute}, nil},
		{"MaxAge passed", `{"exp":1000300,"iat":999939}`, TimeRules{MaxAge: time.Minute}, ErrTooOld},
		{"MaxLife kept", `{"exp":1000300}`, TimeRules{MaxLife: 5 * time.Minute}, nil},
		{"MaxLife passed", `{"exp":1000301}`, TimeRules{MaxLife: 5 * time.Minute}, ErrTooLong},
		{"expired a fraction of a second ago", `{"exp":999999.9}`, TimeRules{}, ErrExpired},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := parse(t, row.claims).CheckTimes(now, row.rules); !errors.Is(err, row.want) || (row.want == nil && err != nil) {
				t.Fatalf("got %v, want %v", err, row.want)
			}
		})
	}
}
