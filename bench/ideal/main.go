// Ideal does the least that a token endpoint can do: parse the form, check a
// secret or verify one RS256 proof, sign one ES256 token (or draw a random opaque
// one), write JSON. It keeps nothing and records nothing, so its speed is the
// limit of net/http, crypto/rsa and crypto/ecdsa on a machine.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"time"
)

type claims struct {
	Iss      string `json:"iss"`
	Sub      string `json:"sub"`
	Aud      string `json:"aud"`
	ClientID string `json:"client_id"`
	Scope    string `json:"scope,omitempty"`
	Iat      int64  `json:"iat"`
	Exp      int64  `json:"exp"`
	Jti      string `json:"jti"`
	GrantID  string `json:"grant_id"`
}

type answer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"`
	Scope       string `json:"scope"`
}

var b64 = base64.RawURLEncoding

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address")
	client := flag.String("client", "bench-service", "the one client's id")
	secret := flag.String("secret", "", "its secret; this program is a yardstick, it guards nothing")
	proofKey := flag.String("proof-key", "", "PEM file with the RSA key of the proofs that /exchange takes")
	proofIssuer := flag.String("proof-issuer", "", "iss of the proofs")
	proofAudience := flag.String("proof-audience", "", "aud of the proofs")
	flag.Parse()

	signer, err := newSigner()
	if err != nil {
		log.Fatal(err)
	}
	hashes := map[string][32]byte{*client: sha256.Sum256([]byte(*secret))}

	// token answers a good request with the token that make gives.
	token := func(make func(id string, r *http.Request) (string, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if err := r.ParseForm(); err != nil {
				http.Error(w, "invalid_request", http.StatusBadRequest)
				return
			}
			id := r.PostForm.Get("client_id")
			want, known := hashes[id]
			got := sha256.Sum256([]byte(r.PostForm.Get("client_secret")))
			if subtle.ConstantTimeCompare(want[:], got[:]) != 1 || !known {
				http.Error(w, "invalid_client", http.StatusUnauthorized)
				return
			}
			value, err := make(id, r)
			if err != nil {
				http.Error(w, "server_error", http.StatusInternalServerError)
				return
			}
			write(w, answer{value, "Bearer", 300, r.PostForm.Get("scope")})
		}
	}
	http.HandleFunc("POST /token", token(func(id string, r *http.Request) (string, error) {
		now := time.Now().Unix()
		body, _ := json.Marshal(claims{"http://" + *listen, id, r.PostForm.Get("resource"), id, r.PostForm.Get("scope"), now, now + 300, rand.Text(), rand.Text()})
		return signer.sign(body)
	}))
	http.HandleFunc("POST /opaque", token(func(string, *http.Request) (string, error) {
		return "sbx_at_" + rand.Text() + rand.Text(), nil
	}))
	if *proofKey != "" {
		x, err := newExchange(*proofKey, *proofIssuer, *proofAudience, "http://"+*listen, signer)
		if err != nil {
			log.Fatal(err)
		}
		http.Handle("POST /exchange", x)
	}
	http.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	log.Fatal(http.ListenAndServe(*listen, nil))
}

// write answers with JSON.
func write(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(body)
}

// signer signs ES256 tokens.
type signer struct {
	key    *ecdsa.PrivateKey
	header string
}

func newSigner() (*signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return &signer{key, b64.EncodeToString([]byte(`{"alg":"ES256","typ":"at+jwt","kid":"ideal-key-1"}`)) + "."}, err
}

func (s *signer) sign(body []byte) (string, error) {
	signed := s.header + b64.EncodeToString(body)
	digest := sha256.Sum256([]byte(signed))
	x, y, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
	if err != nil {
		return "", err
	}
	var sig [64]byte
	x.FillBytes(sig[:32])
	y.FillBytes(sig[32:])
	return signed + "." + b64.EncodeToString(sig[:]), nil
}
