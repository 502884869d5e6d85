package scan

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const issuer = "https://sts.example.com"

var (
	secret  = oauth.EncodeOpaque(oauth.PrefixClientSecret, bytes.Repeat([]byte{7}, 32))
	refresh = oauth.EncodeOpaque(oauth.PrefixRefreshToken, bytes.Repeat([]byte{8}, 45))
	access  = jwt(`{"alg":"ES256","typ":"at+jwt"}`, `{"iss":"`+issuer+`","sub":"ada","exp":1900000000}`)
	idToken = jwt(`{"alg":"ES256","typ":"JWT"}`, `{"iss":"`+issuer+`","sub":"ada","aud":"web"}`)
	proof   = jwt(`{"alg":"RS256"}`, `{"iss":"https://kubernetes.default.svc","sub":"system:serviceaccount:shop:web","aud":["`+issuer+`"]}`)
	foreign = jwt(`{"alg":"RS256"}`, `{"iss":"https://other.example.com","sub":"ada","aud":"https://api.example.com"}`)
)

func jwt(header, claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(header)) + "." + part([]byte(claims)) + "." + part(bytes.Repeat([]byte{9}, 64))
}

func scanned(t testing.TB, r io.Reader) *Scanner {
	t.Helper()
	s := &Scanner{Issuers: []string{issuer}}
	if err := s.Stream(context.Background(), "log", r); err != nil {
		t.Fatal(err)
	}
	return s
}

// places tells findings as `line:column kind`.
func places(s *Scanner) string {
	var all []string
	for _, f := range s.Findings {
		all = append(all, fmt.Sprintf("%d:%d %s", f.Line, f.Column, f.Kind))
	}
	return strings.Join(all, ", ")
}

func TestWhatIsFoundAndWhere(t *testing.T) {
	std := base64.StdEncoding.EncodeToString
	for name, c := range map[string]struct{ text, want string }{
		"nothing":                            {"just a log\nwith two lines\n", ""},
		"a client secret in YAML":            {"a: b\nclient_secret: " + secret + "\n", "2:16 client_secret"},
		"a value at the very end":            {refresh, "1:1 refresh_token"},
		"a value at the end of a sentence":   {"It is " + secret + ".", "1:7 client_secret"},
		"a value in a URL":                   {"GET /cb?access_token=" + access + "&state=x", "1:22 access_token"},
		"a value after an escape in JSON":    {`{"log":"got\n` + secret + `\n"}`, "1:14 client_secret"},
		"a value between dashes":             {"--" + secret + "--", "1:3 client_secret"},
		"two values without a gap":           {secret + refresh, "1:1 client_secret, 1:56 refresh_token"},
		"an access token":                    {"Authorization: Bearer " + access, "1:23 access_token"},
		"an ID token":                        {idToken, "1:1 id_token"},
		"a proof for this issuer":            {proof, "1:1 proof"},
		"another issuer's token for another": {foreign, ""},
		"a JWT after a file name":            {"eyJ.txt." + access, "1:9 access_token"},
		"a JWT without a signature part":     {access[:strings.LastIndex(access, ".")], ""},
		"a Kubernetes Secret":                {"data:\n  token: " + std([]byte(access)), "2:10 access_token"},
		"a Secret for a registry":            {"data:\n  .dockerconfigjson: " + std([]byte(`{"auths":{"r":{"password":"`+secret+`"}}}`)), "2:22 client_secret"},
		"an Authorization header":            {"authorization: Basic " + std([]byte("web:"+secret)), "1:22 client_secret"},
		"the same, one byte further":         {"authorization: Basic " + std([]byte("webb:"+secret)), "1:22 client_secret"},
		"the same, two bytes further":        {"authorization: Basic " + std([]byte("webbb:"+secret)), "1:22 client_secret"},
		"a JWT there":                        {"authorization: Basic " + std([]byte("git:"+access)), "1:22 access_token"},
		"a JWT there, one byte further":      {"authorization: Basic " + std([]byte("git1:"+access)), "1:22 access_token"},
		"a JWT there, two bytes further":     {"authorization: Basic " + std([]byte("git12:"+access)), "1:22 access_token"},
	} {
		t.Run(name, func(t *testing.T) {
			s := scanned(t, strings.NewReader(c.text))
			if got := places(s); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
			if got := places(scanned(t, iotest.OneByteReader(strings.NewReader(c.text)))); got != c.want {
				t.Errorf("byte by byte: found %q, want %q", got, c.want)
			}
		})
	}
}

func TestAValueIsFoundWhereverTheChunksEnd(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte("web:" + secret))
	for _, value := range []string{secret, access, encoded, inLines(encoded, 40, "", "\n")} {
		for _, before := range []int{chunk - reach - 1, chunk - reach, chunk - len(value), chunk - 20, chunk - 1, chunk, 2*chunk - 7} {
			filler := strings.Repeat("x y\n", before/4) + strings.Repeat(" ", before%4)
			s := scanned(t, strings.NewReader(filler+value+strings.Repeat(" z", chunk)))
			if len(s.Findings) != 1 {
				t.Errorf("after %d bytes: found %q", before, places(s))
				continue
			}
			if f := s.Findings[0]; f.Line != before/4+1 || f.Column != before%4+1 {
				t.Errorf("after %d bytes: found at %d:%d", before, f.Line, f.Column)
			}
		}
	}
}

func TestAValueCountsOnceAndDamagedOnesAreCounted(t *testing.T) {
	s := scanned(t, strings.NewReader(secret+"\n"+secret+"\n"+secret[:30]+"\nsbx_cs_[redacted]\nsbx_at_\n"))
	if len(s.Findings) != 1 || s.Findings[0].Times != 2 || s.Findings[0].Value.Reveal() != secret {
		t.Errorf("found %q, %d times", places(s), s.Findings[0].Times)
	}
	if s.Damaged != 1 {
		t.Errorf("%d damaged", s.Damaged)
	}
}

func TestAJWTTellsItsSubjectAndEnd(t *testing.T) {
	f := scanned(t, strings.NewReader(access)).Findings[0]
	if f.Subject != "ada" || !f.Expires.Equal(time.Unix(1900000000, 0)) {
		t.Errorf("got %q, %v", f.Subject, f.Expires)
	}
}

func TestFoldersArchivesAndLinks(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, "old\n"+refresh)
	_ = z.Close()
	write(filepath.Join(dir, "old.log.gz"), packed.Bytes())
	write(filepath.Join(dir, "broken.gz"), []byte("\x1f\x8bnot really"))
	write(filepath.Join(outside, "secret"), []byte(access))
	if err := os.Symlink(outside, filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(dir, "sub", "app.yaml"), []byte(secret))

	s := &Scanner{Issuers: []string{issuer}}
	var unread []string
	err := s.Path(context.Background(), dir, func(path string, _ error) { unread = append(unread, filepath.Base(path)) })
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Kind{}
	for _, f := range s.Findings {
		rel, _ := filepath.Rel(dir, f.File)
		got[rel] = f.Kind
	}
	if len(got) != 2 || got["old.log.gz"] != RefreshToken || got["sub/app.yaml"] != ClientSecret {
		t.Errorf("found %v", got)
	}
	if strings.Join(unread, " ") != "broken.gz" {
		t.Errorf("not read: %v", unread)
	}
	if err := s.Path(context.Background(), filepath.Join(dir, "missing"), nil); !os.IsNotExist(err) {
		t.Errorf("a path that does not exist: %v", err)
	}
}

func TestACanceledScanEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := new(Scanner).Stream(ctx, "log", strings.NewReader(secret)); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

// FuzzScan holds that nothing panics, that places are in the text, and that a
// value which is alone is found, plain or in base64, whatever comes before it.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{"", access, foreign, secret[:20], "sbx_at_sbx_rt_", "eyJ.eyJ.eyJ.", "ZXlKZXlK", strings.Repeat("c2J4X", 50)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := scanned(t, strings.NewReader("-"+text+"\n\n"+secret+"\n\n"+inLines(base64.StdEncoding.EncodeToString([]byte("web:"+access)), 76, "", "\n")))
		found := map[string]bool{}
		for _, one := range s.Findings {
			found[one.Value.Reveal()] = true
			if one.Line < 1 || one.Line > strings.Count(text, "\n")+5 || one.Column < 1 || one.Times < 1 {
				t.Errorf("%d:%d, %d times", one.Line, one.Column, one.Times)
			}
		}
		if !found[secret] || !found[access] {
			t.Error("a value was not found")
		}
	})
}

// BenchmarkScan is what a text costs: an ordinary log, and ones that were made
// to be slow.
func BenchmarkScan(b *testing.B) {
	for name, unit := range map[string]string{
		"log":            `{"time":"2026-01-01T00:00:00Z","level":"INFO","msg":"request served","path":"/token","status":200}` + "\n",
		"prefixes":       "sbx_at_",
		"dashes":         "sbx_at_----------------------------------------",
		"headers":        "eyJhbGciOiJFUzI1NiJ9.",
		"marks":          "ZXlK",
		"marks of JSON":  "V5S",
		"marks, broken":  "V5SV5SV5SV5SV5SV5SV5SV5SV5SV5SV5SV5S\n",
		"headers, again": "eyJ",
		"base64 of them": base64.StdEncoding.EncodeToString([]byte(strings.Repeat("sbx_at_", 30))),
	} {
		text := strings.Repeat(unit, 4<<20/len(unit))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				scanned(b, strings.NewReader(text))
			}
		})
	}
}
