package admin

import (
	"reflect"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// The API and the rule book have a type each for the claims about a person: none is lost between them.
func TestEveryClaimIsTakenAndShown(t *testing.T) {
	var all authority.StandardClaims
	fill(reflect.ValueOf(&all).Elem())
	if got := claimsOf(shownClaims(all)); got != all {
		t.Errorf("%+v became %+v", all, got)
	}
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Bool:
		v.SetBool(true)
	default:
		v.SetString("x")
	}
}
