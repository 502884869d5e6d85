package config

import (
	"slices"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/config/source"
	"github.com/signalbox-sts/signalbox/internal/suggest"
)

const envPrefix = "SIGNALBOX_"

// clientEnv belongs to the commands that talk to a service. They share the
// prefix and often the shell, so the service must not trip over them.
var clientEnv = []string{
	"SIGNALBOX_ADMIN_URL", "SIGNALBOX_ADMIN_TOKEN", "SIGNALBOX_ADMIN_TOKEN_FILE",
	"SIGNALBOX_ISSUER_URL", "SIGNALBOX_CLIENT_ID", "SIGNALBOX_CLIENT_SECRET_FILE", "SIGNALBOX_CONTEXT",
}

const testEnv = "SIGNALBOX_TEST_"

// environment lets SIGNALBOX_… variables override the file.
func (d *document) environment(env []string) {
	type target struct {
		path string
		f    field
	}
	known := map[string]target{}
	var names []string
	walk(table, "", func(path string, f field) {
		if name := f.env(path); name != "" {
			known[name] = target{path, f}
			names = append(names, name)
		}
	})
	given := map[string]string{}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, envPrefix) && !strings.HasPrefix(name, testEnv) && !slices.Contains(clientEnv, name) {
			given[name] = value
		}
	}
	for _, name := range sortedKeys(given) {
		value := given[name]
		t, ok := known[name]
		if !ok {
			base, isFile := strings.CutSuffix(name, "_FILE")
			t, ok = known[base]
			if !ok || !isFile || !t.f.secret {
				fix := suggest.DidYouMean(name, names)
				if fix == "" {
					fix = "`signalbox config explain` lists every key with its variable"
				}
				d.failEnv(name, "no key has this variable", fix)
				continue
			}
			if _, both := given[base]; both {
				d.failEnv(name, base+" is set as well", "keep one of the two")
				continue
			}
			d.Where[t.path] = source.Place{Env: name}
			value, ok = d.secretFile(t.path, value)
			if !ok {
				continue
			}
		}
		d.Where[t.path] = source.Place{Env: name}
		// What the file said about the key no longer counts, right or wrong;
		// but a secret that must not be in the file must go from it.
		if d.Inside[t.path] && !t.f.envOnly {
			d.Errors = slices.DeleteFunc(d.Errors, func(e Error) bool {
				return e.Key == t.path || strings.HasPrefix(e.Key, t.path+"[")
			})
			delete(d.Failed, t.path)
			delete(d.Inside, t.path)
		}
		if m := assign(t.f, t.f.at(d.config), value); m != nil {
			d.Fail(t.path, m.problem, m.fix)
		}
	}
}

func (d *document) failEnv(name, problem, fix string) {
	d.Errors = append(d.Errors, Error{File: "environment " + source.Clip(name), Problem: problem, Fix: fix})
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
