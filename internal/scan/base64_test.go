package scan

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// inLines breaks a text as programs do.
func inLines(text string, width int, before, end string) string {
	var b strings.Builder
	for len(text) > width {
		b.WriteString(before + text[:width] + end)
		text = text[width:]
	}
	return b.String() + before + text + end
}

// Wherever a value begins in base64 text, and wherever that is broken, it is found, once and whole.
func TestBase64InLines(t *testing.T) {
	for _, value := range []string{secret, refresh, access, idToken, proof} {
		for _, prefix := range []string{"", "a", "ab", `{"auths":{"registry.example.com":{"password":"`} {
			encoded := base64.StdEncoding.EncodeToString([]byte(prefix + value + "\n"))
			for width := narrowest; width <= 80; width++ {
				for _, as := range []struct{ before, end string }{{"", "\n"}, {"", "\r\n"}, {"    ", "\n"}, {"+", "\n"}, {"-  ", "\r\n"}} {
					text := "kind: Secret" + as.end + inLines(encoded, width, as.before, as.end) + "---" + as.end
					s := scanned(t, strings.NewReader(text))
					if len(s.Findings) != 1 || s.Findings[0].Value.Reveal() != value || s.Findings[0].Times != 1 || s.Damaged != 0 {
						t.Fatalf("found %q, %d damaged, in lines of %d:\n%s", places(s), s.Damaged, width, text)
					}
				}
			}
		}
	}
}

func TestWhatIsNotOneBase64Text(t *testing.T) {
	std := base64.StdEncoding.EncodeToString
	long := jwt(`{"alg":"ES256","typ":"at+jwt"}`, `{"iss":"`+issuer+`","sub":"`+strings.Repeat("a", 4000)+`"}`)
	for name, c := range map[string]struct {
		text    string
		want    []string
		damaged int
	}{
		"tokens, one in each line":             {std([]byte(access)) + "\n" + std([]byte(idToken)) + "\n" + std([]byte(access)) + "\n", []string{access, idToken}, 0},
		"secrets, one in each line":            {std([]byte(secret)) + "\n" + std([]byte(refresh)) + "\n", []string{secret, refresh}, 0},
		"a word in the next line":              {"password: " + std([]byte(secret)) + "\nexport\n", []string{secret}, 0},
		"a token, and a word in the next line": {std([]byte(access)) + "\nend\n", []string{access}, 0},
		"behind a key":                         {"token: " + inLines(std([]byte(access)), 60, "", "\n  "), []string{access}, 0},
		"behind a key, in a diff":              {"+token: " + inLines(std([]byte(access)), 60, "", "\n+  ") + "\n+other: 1\n", []string{access}, 0},
		"two values in one text":               {inLines(std([]byte("TOKEN="+access+"\nSECRET="+secret+"\nREFRESH="+refresh+"\n")), 76, "", "\n"), []string{access, secret, refresh}, 0},
		"a path before it":                     {"https://example.com/basic/" + std([]byte(secret)), []string{secret}, 0},
		"removed in a diff":                    {"-" + std([]byte("?"+secret)) + "\n", []string{secret}, 0},
		"longer than what is decoded at first": {inLines(std([]byte(long)), 76, "", "\n"), []string{long}, 0},
		"the same in one line":                 {std([]byte(long)), []string{long}, 0},
		"cut off":                              {inLines(std([]byte(secret[:40])), 40, "", "\n"), nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := scanned(t, strings.NewReader(c.text))
			var got []string
			for _, f := range s.Findings {
				got = append(got, f.Value.Reveal())
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) || s.Damaged != c.damaged {
				t.Errorf("found %q, %d damaged, want %q, %d", got, s.Damaged, c.want, c.damaged)
			}
		})
	}
}
