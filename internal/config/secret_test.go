package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestAWitnessIsAFileOrAURL(t *testing.T) {
	for text, shown := range map[string]string{
		"heads":                               "heads",
		"/mnt/witness/heads":                  "/mnt/witness/heads",
		"https://witness.example.com/heads/":  "https://witness.example.com/heads/",
		"http://127.0.0.1:8000/hook":          "http://127.0.0.1:8000/hook",
		"http://[::1]:8000/hook":              "http://[::1]:8000/hook",
		"https://w.example.com/h/?sig=secret": "https://w.example.com/h/?xxxxx",
	} {
		w, err := ParseWitness(text)
		if err != nil || fmt.Sprint(w) != shown || fmt.Sprintf("%#v %d %s", w, w, w) != shown+" "+shown+" "+shown {
			t.Errorf("%s: %v, %v", text, w, err)
		}
		if strings.Contains(text, "://") != (w.URL() != nil) || w.URL() != nil && w.URL().String() != text || w.URL() == nil && w.File() != text {
			t.Errorf("%s: %v, %q", text, w.URL(), w.File())
		}
	}
	for _, text := range []string{
		"http://witness.example.com/secret", "https://user:secret@witness.example.com/", "ftp://secret.example.com/", "https:///secret", "https://a b/secret", "https://x/#secret",
	} {
		if w, err := ParseWitness(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, %v", text, w, err)
		}
	}
}
