package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// exchange does the least that a token exchange can do: verify the proof of a
// pod, compare issuer, audience and time, and sign a token for the place that
// is asked for. It asks no policy and remembers no proof, so one that comes
// again costs the same.
type exchange struct {
	key                   *rsa.PublicKey
	issuer, audience, iAm string
	signer                *signer
}

func newExchange(keyFile, issuer, audience, iAm string, signer *signer) (*exchange, error) {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New(keyFile + " has no PEM block")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New(keyFile + " has no RSA key")
	}
	return &exchange{key, issuer, audience, iAm, signer}, nil
}

// proof is what is read of a service-account token.
type proof struct {
	Iss        string   `json:"iss"`
	Aud        []string `json:"aud"`
	Exp        int64    `json:"exp"`
	Kubernetes struct {
		Namespace      string                `json:"namespace"`
		Pod            struct{ UID string }  `json:"pod"`
		ServiceAccount struct{ Name string } `json:"serviceaccount"`
	} `json:"kubernetes.io"`
}

type exchanged struct {
	AccessToken string `json:"access_token"`
	IssuedType  string `json:"issued_token_type"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"`
}

type exchangedClaims struct {
	claims
	Groups []string `json:"groups"`
	Policy string   `json:"policy"`
}

func (x *exchange) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange" {
		http.Error(w, "invalid_request", http.StatusBadRequest)
		return
	}
	now := time.Now().Unix()
	p, err := x.verify(r.PostForm.Get("subject_token"), now)
	if err != nil {
		http.Error(w, "invalid_request", http.StatusBadRequest)
		return
	}
	body, _ := json.Marshal(exchangedClaims{claims{
		Iss: x.iAm, Sub: "cluster:hub:ns:" + p.Kubernetes.Namespace + ":sa:" + p.Kubernetes.ServiceAccount.Name, Aud: x.iAm + "/clusters/" + r.PostForm.Get("audience"),
		ClientID: "policy:orders-use-spoke-a", Iat: now, Exp: now + 300, Jti: rand.Text(), GrantID: p.Kubernetes.Pod.UID,
	}, []string{"deployers"}, "orders-use-spoke-a"})
	value, err := x.signer.sign(body)
	if err != nil {
		http.Error(w, "server_error", http.StatusInternalServerError)
		return
	}
	write(w, exchanged{value, "urn:ietf:params:oauth:token-type:access_token", "Bearer", 300})
}

var errProof = errors.New("the proof is not good")

func (x *exchange) verify(raw string, now int64) (p proof, err error) {
	end := strings.LastIndexByte(raw, '.')
	header, payload, ok := strings.Cut(raw[:max(end, 0)], ".")
	if !ok {
		return p, errProof
	}
	var h struct{ Alg string }
	if err := decode(header, &h); err != nil || h.Alg != "RS256" {
		return p, errProof
	}
	sig, err := b64.DecodeString(raw[end+1:])
	if err != nil {
		return p, err
	}
	digest := sha256.Sum256([]byte(raw[:end]))
	if err := rsa.VerifyPKCS1v15(x.key, crypto.SHA256, digest[:], sig); err != nil {
		return p, err
	}
	if err := decode(payload, &p); err != nil {
		return p, err
	}
	if p.Iss != x.issuer || !slices.Contains(p.Aud, x.audience) || now >= p.Exp {
		return p, errProof
	}
	return p, nil
}

func decode(part string, into any) error {
	text, err := b64.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}
