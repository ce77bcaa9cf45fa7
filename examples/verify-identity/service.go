// A service behind Portcullis that believes nobody but the gateway, in Go, with the standard library.
//
// The gateway tells who calls in the header X-Portcullis-Identity, in one of two forms:
//
//	identity = "file:identity.secret"     a MAC:  IDENTITY_SECRET_FILE=identity.secret go run service.go 9000
//	identity = { jwt = {} }               a JWT:  JWKS_URL=http://127.0.0.1:9901/.well-known/jwks.json \
//	                                              AUDIENCE=task-service go run service.go 9000
//
// With identity = { jwt = { bind = "request" } } set IDENTITY_BIND=request, too.
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// Caller is what the gateway tells, in either form.
type Caller struct {
	Sub    *string  `json:"sub"`
	Roles  []string `json:"roles"`
	Iss    string   `json:"iss"`
	Aud    string   `json:"aud"`
	Iat    int64    `json:"iat"`
	Exp    int64    `json:"exp"`
	Method string   `json:"method"`
	Path   string   `json:"path"`
	Query  string   `json:"query"`
}

type request struct{ method, path, query string }

var decode = base64.RawURLEncoding.DecodeString

func (c *Caller) isFor(here request) bool {
	return c.Method == here.method && c.Path == here.path && c.Query == here.query
}

// verifyMac tells who calls, when the header of version 2 proves it for this request.
func verifyMac(value string, secret []byte, here request) (*Caller, error) {
	parts := strings.Split(value, ".")
	if len(parts) != 3 || parts[0] != "v2" {
		return nil, errors.New("no identity of version 2")
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("portcullis-identity-v2." + parts[1]))
	given, err := decode(parts[2])
	// Nothing of the JSON is read before this has been found right.
	if err != nil || !hmac.Equal(given, mac.Sum(nil)) {
		return nil, errors.New("not signed by the gateway")
	}
	caller, err := read[Caller](parts[1])
	if err != nil {
		return nil, err
	}
	if age := time.Now().Unix() - caller.Iat; age > 60 || age < -60 {
		return nil, errors.New("too old, or from the future")
	}
	if !caller.isFor(here) {
		return nil, errors.New("signed for another request")
	}
	return caller, nil
}

type jwk struct{ Kid, Alg, X, Y string }

// Keys are the gateway's public keys: fetched when one is unknown, at most every ten seconds.
type Keys struct {
	url     string
	lock    sync.Mutex
	known   map[string]jwk
	fetched time.Time
}

func (k *Keys) find(kid string) (jwk, error) {
	k.lock.Lock()
	defer k.lock.Unlock()
	age := time.Since(k.fetched)
	if _, there := k.known[kid]; age > 5*time.Minute || (!there && age > 10*time.Second) {
		client := http.Client{Timeout: 5 * time.Second}
		answer, err := client.Get(k.url)
		if err != nil {
			return jwk{}, err
		}
		defer answer.Body.Close()
		var set struct{ Keys []jwk }
		if answer.StatusCode != http.StatusOK {
			return jwk{}, errors.New("the keys cannot be fetched: " + answer.Status)
		}
		if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&set); err != nil {
			return jwk{}, err
		}
		k.known, k.fetched = map[string]jwk{}, time.Now()
		for _, key := range set.Keys {
			k.known[key.Kid] = key
		}
	}
	key, there := k.known[kid]
	if !there {
		return jwk{}, errors.New("signed with an unknown key")
	}
	return key, nil
}

// verifies tells whether the signature is of this key, by the algorithm that the key has.
func (key jwk) verifies(text, signature []byte) bool {
	x, errX := decode(key.X)
	y, errY := decode(key.Y)
	if errX != nil || errY != nil {
		return false
	}
	switch {
	case key.Alg == "EdDSA" && len(x) == ed25519.PublicKeySize:
		return ed25519.Verify(x, text, signature)
	case key.Alg == "ES256" && len(signature) == 64:
		public := ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(x), Y: new(big.Int).SetBytes(y)}
		hash := sha256.Sum256(text)
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		return public.Curve.IsOnCurve(public.X, public.Y) && ecdsa.Verify(&public, hash[:], r, s)
	}
	return false
}

// verifyToken tells who calls, when the JWT proves it.
func verifyToken(value string, keys *Keys, audience, issuer string, bound bool, here request) (*Caller, error) {
	parts := strings.Split(value, ".")
	if len(parts) != 3 {
		return nil, errors.New("no token")
	}
	head, err := read[struct{ Alg, Kid, Typ string }](parts[0])
	if err != nil || head.Typ != "portcullis-identity+jwt" {
		return nil, errors.New("a token of another kind")
	}
	key, err := keys.find(head.Kid)
	if err != nil {
		return nil, err
	}
	signature, err := decode(parts[2])
	// The key says how it signs; what the token says must be the same and decides nothing.
	if err != nil || head.Alg != key.Alg || !key.verifies([]byte(parts[0]+"."+parts[1]), signature) {
		return nil, errors.New("not signed by the gateway")
	}
	caller, err := read[Caller](parts[1])
	if err != nil {
		return nil, err
	}
	now := time.Now().Unix()
	switch {
	case caller.Iss != issuer || caller.Aud != audience:
		return nil, errors.New("for somebody else")
	case caller.Iat > now+5 || now >= caller.Exp+5:
		return nil, errors.New("ended, or from the future")
	case bound && !caller.isFor(here):
		return nil, errors.New("signed for another request")
	}
	return caller, nil
}

func read[T any](text string) (*T, error) {
	bytes, err := decode(text)
	if err != nil {
		return nil, err
	}
	value := new(T)
	return value, json.Unmarshal(bytes, value)
}

func main() {
	keys := &Keys{url: os.Getenv("JWKS_URL")}
	issuer := os.Getenv("ISSUER")
	if issuer == "" {
		issuer = "portcullis"
	}
	verify := func(value string, here request) (*Caller, error) {
		bound := os.Getenv("IDENTITY_BIND") == "request"
		return verifyToken(value, keys, os.Getenv("AUDIENCE"), issuer, bound, here)
	}
	if path := os.Getenv("IDENTITY_SECRET_FILE"); path != "" {
		secret, err := os.ReadFile(path)
		if err != nil {
			log.Fatal(err)
		}
		secret = bytes.TrimRight(secret, "\r\n")
		verify = func(value string, here request) (*Caller, error) { return verifyMac(value, secret, here) }
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		// What was signed are the bytes of the request line, not what was made of them.
		path, query, _ := strings.Cut(r.RequestURI, "?")
		values := r.Header.Values("X-Portcullis-Identity")
		err := errors.New("exactly one identity is needed")
		var caller *Caller
		if len(values) == 1 {
			caller, err = verify(values[0], request{r.Method, path, query})
		}
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			// Whatever is wrong with an identity, it proves nothing.
			log.Print("refused: ", err)
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":"unauthorized"}`)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"sub": caller.Sub, "roles": caller.Roles})
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(handler)))
}
