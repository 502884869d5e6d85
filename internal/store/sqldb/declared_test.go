package sqldb_test

import (
	"maps"
	"testing"
)

func TestDeclaredIsReplacedAsAWhole(t *testing.T) {
	everyEngine(t, func(t *testing.T, url string) {
		db := open(t, url)
		for _, next := range []map[string]string{
			{"client a": "", "user b": "1"},
			{"client a": "", "user b": "2", "user c": "1"},
			{"user c": "1"},
			{},
			{"user c": "1"},
		} {
			if err := db.SaveDeclared(t.Context(), next); err != nil {
				t.Fatal(err)
			}
			if got, err := db.Declared(t.Context()); err != nil || !maps.Equal(got, next) {
				t.Fatalf("%v %v, want %v", got, err, next)
			}
		}
	})
}
